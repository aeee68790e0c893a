"""The queue of inline mode: a job that is put into it has ended when the call returns."""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import structlog

from worker.broker.exchange import Ended
from worker.broker.queue_store import EnqueueResult, NewJob
from worker.broker.workflow_records import NewWorkflow
from worker.client import Client
from worker.core import wire
from worker.core.config import WorkerConfig
from worker.core.workflow import WorkflowState
from worker.definition.registry import Registry
from worker.inline.flow import Flow
from worker.inline.frames import Place, entered
from worker.inline.memory import Entry, Flowing, Memory
from worker.inline.runner import Runner, as_queued
from worker.inline.steps import StepRecords
from worker.inline.waiters import Waiters
from worker.observability.logs import hand_to_logging


class InlineQueue:
    """The jobs and workflows of this process, and a runner for each registry in each event loop."""

    def __init__(self, config: WorkerConfig) -> None:
        """The times of `config` for which a job waits for what is unavailable are ignored: nobody else runs here who
        could make it available."""
        if not structlog.is_configured():  # its default prints tracebacks with all local variables to standard output
            hand_to_logging()
        self.config = replace(config, unknown_job_deadline=0, outage_patience=0)
        self.memory = Memory()
        self.steps = StepRecords(self.memory)
        self.waiters = Waiters()
        self._lock = threading.Lock()
        self._runners: dict[asyncio.AbstractEventLoop, dict[Registry, Runner]] = {}

    def runner(self, registry: Registry, make_client: Callable[[], Client]) -> Runner:
        """The runner of the registry's jobs in this loop; `make_client`: makes the client that its jobs get."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._runners:
                self._runners = {each: own for each, own in self._runners.items() if not each.is_closed()}
            here = self._runners.setdefault(loop, {})
        if registry not in here:
            here[registry] = Runner(make_client(), registry, self.config, self.settle)
        return here[registry]

    async def close(self) -> None:
        """Close the resources that were opened in this loop."""
        with self._lock:
            here = self._runners.pop(asyncio.get_running_loop(), {})
        for runner in here.values():
            await runner.close()

    async def put(self, runner: Runner, new: NewJob) -> EnqueueResult:
        """Run a job, or find the one that stands for it.

        Raises:
            InlineTooDeep: jobs enqueue jobs without end.
            asyncio.CancelledError: the caller was cancelled, and the job with it.
            Exception: a resource could not be opened; nothing was run.
        """
        entry = _entry(new)
        with entered(f"job {_job_of(entry)!r}") as place:
            await runner.open()
            known = self.memory.find(new.id)
            if known is not None:
                return EnqueueResult(new.id, known.new.request_id == new.request_id)
            standing = self.memory.standing_for(new.unique, new.id)
            if standing != new.id:
                return EnqueueResult(standing, False)
            if self.memory.take(entry) is not entry:  # another thread was faster
                return EnqueueResult(new.id, False)
            await runner.run(entry, place)
        return EnqueueResult(new.id, True)

    async def start(self, runner: Runner, new: NewWorkflow) -> bool:
        """Run a workflow, unless its id is taken; raises as `put`."""
        with entered(f"workflow {new.id}") as place:
            await runner.open()
            known = self.memory.find_flow(new.id)
            if known is not None:
                return known.flow.new.request_id == new.request_id
            if self.memory.find(new.id) is not None:
                return False
            flowing = Flowing(Flow.begin(new))
            self.memory.take_flow(flowing)
            await self._carry_out(runner, flowing, place)
        return True

    async def retry(self, runner: Runner, workflow_id: str) -> str:
        """Run the nodes of a workflow that did not succeed; implements `Graphs.retry`."""
        flowing = self.memory.find_flow(workflow_id)
        if flowing is None:
            return "unknown"
        flow = flowing.flow
        if flow.state in {WorkflowState.RUNNING, WorkflowState.SUCCEEDED}:
            return flow.state
        with entered(f"workflow {workflow_id}") as place:
            await runner.open()
            flow.retry(self.under_way(flowing).keys())
            self.memory.take_flow(flowing)
            await self._carry_out(runner, flowing, place)
        return "running"

    def cancel_flow(self, workflow_id: str) -> str:
        """End a workflow: waiting jobs at once, running ones are stopped; implements `Graphs.cancel`."""
        flowing = self.memory.find_flow(workflow_id)
        if flowing is None:
            return "unknown"
        if flowing.flow.state is not WorkflowState.RUNNING:
            return "ended"
        flowing.flow.cancel()
        for number in self.under_way(flowing):
            entry = self.memory.find(flowing.flow.node(number).job_id or "")
            if entry is not None:
                entry.stop()
        self._tell_end(flowing)
        return "cancelled"

    def under_way(self, flowing: Flowing) -> dict[int, str]:
        """The nodes of a workflow that run, or are ready to."""
        found = {}
        for number in range(len(flowing.flow.new.nodes)):
            entry = self.memory.find(flowing.flow.node(number).job_id or "")
            if entry is not None and not entry.has_ended:
                found[number] = "running" if entry.run is not None else "queued"
        return found

    async def _carry_out(self, runner: Runner, flowing: Flowing, place: Place) -> None:
        """Run the ready jobs of a workflow, until there are none; nothing if another caller already does."""
        self._queue(flowing)
        self._tell_end(flowing)  # of a workflow of nothing but empty groups
        if flowing.is_carried_out:
            return
        flowing.is_carried_out = True
        try:
            while flowing.queue:
                await runner.run(flowing.queue.popleft(), place)
        finally:
            flowing.is_carried_out = False
            if flowing.queue:  # the caller was cancelled
                self.cancel_flow(flowing.id)
                while flowing.queue:
                    runner.drop(flowing.queue.popleft())

    def _queue(self, flowing: Flowing) -> None:
        """Jobs of the nodes that have become ready."""
        flow = flowing.flow
        while flow.ready:
            number = flow.ready.popleft()
            node, new = flow.node(number), flow.new.nodes[number]
            self.memory.forget(node.job_id or "")  # of the run before, where it is restarted
            job = NewJob(node.job_id or "", node.queue_key or "", "", new.payload, node.delay_ms or 0, node.due_ms)
            entry = _entry(job, (flowing, number))
            self.memory.take(entry)
            flowing.queue.append(entry)

    def settle(self, entry: Entry, ended: Ended) -> None:
        """Keep the end of a job, queue what follows it, and notify those who wait."""
        self.memory.end(entry, ended)
        step, entry.step = entry.step, None  # else the job would keep its workflow in memory
        if step is not None:
            flowing, number = step
            flowing.flow.ended(number, ended.state, ended.value)
            self._queue(flowing)
            self._tell_end(flowing)
        self.waiters.tell(entry.id)

    def _tell_end(self, flowing: Flowing) -> None:
        if flowing.flow.state.ended:
            self.memory.end_flow(flowing)
            self.waiters.tell(flowing.id)


def _entry(new: NewJob, step: tuple[Flowing, int] | None = None) -> Entry:
    """A job as it would be in the queue: it is run at once, whatever time was asked for."""
    now_ms = time.time_ns() // 1_000_000
    due_ms = now_ms + new.delay_ms if new.due_ms is None else new.due_ms
    return Entry(new, as_queued(new.payload, now_ms, due_ms), step)


def _job_of(entry: Entry) -> str:
    return wire.loads(entry.payload, wire.Payload).job
