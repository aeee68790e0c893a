"""A workflow in memory: the transitions of `broker/lua/workflow.lua`, without Redis and without waiting."""

import time
from collections import deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from worker.broker.workflow_records import FoundWorkflow, NewWorkflow, NodeRecord
from worker.core import wire
from worker.core.job import State
from worker.core.workflow import WorkflowState

SKIPPED = "skipped"


@dataclass(slots=True, eq=False)
class Flow:
    """A workflow under way. `ready`: numbers of the jobs that may start now, to be taken from its left.

    waits: per node, how many must succeed first. ends, values: of nodes that ended, or are skipped. causes: why
    handlers were started. left: how many nodes must still succeed. again: nodes that failed with their workflow, or
    after it. size: bytes of all payloads, values and causes.
    """

    new: NewWorkflow
    state: WorkflowState = WorkflowState.RUNNING
    ready: deque[int] = field(default_factory=deque)
    waits: list[int] = field(default_factory=list)
    ends: dict[int, str] = field(default_factory=dict)
    values: dict[int, bytes] = field(default_factory=dict)
    causes: dict[int, bytes] = field(default_factory=dict)
    again: set[int] = field(default_factory=set)
    left: int = 0
    size: int = 0
    failed: int | None = None
    created_ms: int = 0
    finished_ms: int | None = None
    _starting: deque[int] = field(default_factory=deque)

    @classmethod
    def begin(cls, new: NewWorkflow) -> "Flow":
        """A workflow whose first jobs are ready."""
        flow = cls(new, waits=[node.waits for node in new.nodes], left=new.required, created_ms=_now_ms())
        flow.size = sum(len(node.payload) for node in new.nodes)
        flow._start_ready()
        return flow

    def node(self, number: int) -> NodeRecord:
        """What never changes of a node."""
        return self.new.nodes[number].record

    def ended(self, number: int, state: State, value: bytes) -> None:
        """A job of it has ended; `value` is its result or failure as JSON."""
        self._node_ended(number, state, value)
        self._start_all()

    def cancel(self) -> None:
        """End it, unless it has ended: nothing follows what is ready or runs."""
        if self.state is WorkflowState.RUNNING:
            self._end(WorkflowState.CANCELLED)

    def retry(self, under_way: AbstractSet[int]) -> list[int]:
        """Resume it where it failed or was cancelled; the numbers of the nodes that are restarted. Those `under_way`
        are restarted if they do not succeed."""
        anew = []
        for number in range(len(self.new.nodes)):
            if self._is_done(number):
                continue
            if number in under_way:
                self.again.add(number)
            else:
                self._forget(number)
                anew.append(number)
        self.state, self.failed, self.finished_ms = WorkflowState.RUNNING, None, None
        self.size -= sum(map(len, self.causes.values()))
        self.causes.clear()
        if self.left <= 0:
            self._finish_last()
        self._start_ready(under_way)
        return anew

    def value(self, number: int) -> bytes | None:
        """The value of a node as JSON; a join's is the list of its members'."""
        members = self.node(number).members
        if members is None:
            return self.values.get(number)
        values = [self.value(member) for member in members]
        there = [value for value in values if value is not None]
        return b"[" + b",".join(there) + b"]" if len(there) == len(values) else None

    def found(self, under_way: Mapping[int, str]) -> FoundWorkflow:
        """The workflow as a look-up shows it. `under_way`: `running` or `queued`, for nodes of which that is known."""
        fields = {
            "state": self.state.value,
            "policy": self.new.on_failure,
            "last": str(self.new.last),
            "created": str(self.created_ms),
        }
        if self.failed is not None:
            fields["failed"] = str(self.failed)
        if self.finished_ms is not None:
            fields["finished"] = str(self.finished_ms)
        waiting = SKIPPED if self.state.ended else "waiting"
        states = {**under_way, **self.ends}
        nodes = {n: (self.node(n), states.get(n, waiting)) for n in range(len(self.new.nodes))}
        return FoundWorkflow(fields, nodes)

    def _end(self, state: WorkflowState) -> None:
        self.state, self.finished_ms = state, _now_ms()

    def _node_ended(self, number: int, state: State, value: bytes) -> None:
        node, running, well = self.node(number), self.state is WorkflowState.RUNNING, state is State.SUCCEEDED
        if not well and running and number in self.again:
            self._forget(number)
            self._starting.append(number)
            return
        if number in self.ends:
            return
        self.ends[number] = state.value
        if node.members is None:
            self.values[number] = value if well else b'{"error":' + value + b"}"
            self.size += len(self.values[number])
        if not well:
            self._start_handlers(node, value)
        if node.is_handler:
            return
        if not well and not running:  # it ended with its workflow: nothing follows, unless that is retried
            self.again.add(number)
        elif not well and self.new.on_failure == "stop":
            self.failed = number
            self._end(WorkflowState.FAILED)
        else:
            self._pass_on(node, well=well)
            self._count_down()

    def _start_handlers(self, node: NodeRecord, failure: bytes) -> None:
        """Start the handlers of a node's failure, each once."""
        for handler in node.handlers:
            if handler not in self.causes:
                self.causes[handler] = b'{"job_id":' + wire.dumps(node.job_id) + b',"error":' + failure + b"}"
                self.size += len(self.causes[handler])
                self._starting.append(handler)

    def _pass_on(self, node: NodeRecord, *, well: bool) -> None:
        """A node's value is there, which may be a failure: start the successors that waited for it alone."""
        for successor in node.then:
            if not well and self.node(successor).is_callback:
                self.ends[successor] = SKIPPED
                self._count_down()
                continue
            self.waits[successor] -= 1
            if self.waits[successor] == 0 and self.state is WorkflowState.RUNNING:
                self._starting.append(successor)

    def _count_down(self) -> None:
        """One of the nodes that must succeed has; with the last of them the workflow ends."""
        self.left -= 1
        if self.left == 0 and self.state is WorkflowState.RUNNING:
            well = self.ends.get(self.new.last) == State.SUCCEEDED
            self._end(WorkflowState.SUCCEEDED if well else WorkflowState.FAILED)

    def _start_all(self) -> None:
        """Make jobs ready whose predecessors have ended. A join is done at once."""
        while self._starting:
            number = self._starting.popleft()
            if self.node(number).members is None:
                self.ready.append(number)
            else:
                self._node_ended(number, State.SUCCEEDED, b"")

    def _is_done(self, number: int) -> bool:
        """Whether a node's end stands when its workflow is retried: a success, or a failure that was passed on."""
        ended = self.ends.get(number)
        if ended == State.SUCCEEDED:
            return True
        passed_on = ended is not None and self.new.on_failure == "continue" and not self.node(number).is_handler
        return passed_on and number not in self.again

    def _start_ready(self, under_way: AbstractSet[int] = frozenset()) -> None:
        for number, waits in enumerate(self.waits):
            if waits == 0 and number not in under_way and not self._is_done(number):
                self._forget(number)
                self._starting.append(number)
        self._start_all()

    def _finish_last(self) -> None:
        """All nodes have ended. Where the last one failed it is retried: failures of others are values."""
        if self.ends.get(self.new.last) == State.SUCCEEDED:
            self._end(WorkflowState.SUCCEEDED)
        else:
            self.left = 1
            self.again.add(self.new.last)

    def _forget(self, number: int) -> None:
        self.ends.pop(number, None)
        self.size -= len(self.values.pop(number, b""))
        self.again.discard(number)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
