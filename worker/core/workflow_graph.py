"""Chain, group, chord: all are compiled to one graph of jobs and joins, which Redis carries out."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Unpack, cast

from pydantic import Field, InstanceOf, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from worker.core.declared import JobRegistry
from worker.core.errors import ArgumentProblem, InvalidWorkflow
from worker.core.handle import WorkflowHandle
from worker.core.options import FORBID, SystemId, is_client_id, problems, reserved_id
from worker.core.signature import Signature
from worker.core.sync_handle import SyncWorkflowHandle
from worker.core.workflow import OnFailure

MOST_NODES = 50_000
DEEPEST = 100  # well below Python's recursion limit: `place` calls itself once a level


@with_config(FORBID)
class WorkflowOptions(TypedDict, total=False):
    """Options of a workflow.

    id: its id; a second start with the same id starts nothing. on_failure: `stop` or `continue`.
    on_success: gets the result at the end. on_error: gets `{"job_id", "error"}` of the first step that fails.
    keep: seconds that it can be looked up, and retried, after its end; a day by default.
    """

    id: SystemId
    on_failure: OnFailure
    on_success: InstanceOf[Signature[Any]]
    on_error: InstanceOf[Signature[Any]]
    keep: Annotated[float, Field(ge=60, le=366 * 86400, allow_inf_nan=False)]


_OPTIONS: TypeAdapter[WorkflowOptions] = TypeAdapter(WorkflowOptions)


def check_client_workflow_options(options: Any) -> WorkflowOptions:
    """Validate a workflow's options from outside, over HTTP: they take no id of the system's own.

    Raises:
        InvalidWorkflow: as `check_workflow_options`, or the id holds `~`.
    """
    checked = check_workflow_options(options)
    if "id" in checked and not is_client_id(checked["id"]):
        raise InvalidWorkflow([reserved_id()])
    return checked


def check_workflow_options(options: Any) -> WorkflowOptions:
    """Validate a workflow's options that code of this system gives.

    Raises:
        InvalidWorkflow: one is unknown or out of range.
    """
    most = len(WorkflowOptions.__annotations__)
    if isinstance(options, dict) and len(options) > most:
        raise InvalidWorkflow([ArgumentProblem(("options",), f"must be at most {most}, not {len(options)}")])
    try:
        return _OPTIONS.validate_python(options)
    except ValidationError as error:
        raise InvalidWorkflow(problems(error, "options")) from error


class Startable:
    """What can be started with the client that its jobs are bound to."""

    __slots__ = ()

    async def enqueue(self, **options: Unpack[WorkflowOptions]) -> WorkflowHandle:
        """Start the workflow.

        Raises:
            InvalidWorkflow: an option is wrong, a step cannot be placed, or there is no job, and so no registry with a
                client; `client.start` accepts that, too.
            InvalidArguments: a step's arguments do not fit its job.
            BrokerUnavailable: Redis did not answer; the same id may be tried again.
        """
        return await self._registry().producer.start(cast("Flow", self), check_workflow_options(options))

    def enqueue_sync(self, **options: Unpack[WorkflowOptions]) -> SyncWorkflowHandle:
        """Start the workflow by the `SyncClient` that is open: for callers that cannot await. Raises as `enqueue`."""
        return self._registry().sync_producer.start(cast("Flow", self), check_workflow_options(options))

    def _registry(self) -> JobRegistry:
        first = next(signatures(cast("Flow", self)), None)
        if first is None:
            raise _invalid("must have at least one job")
        return first.definition.registry


@dataclass(frozen=True, slots=True)
class Chain(Startable):
    """Steps one after the other; each gets the result of the one before."""

    steps: tuple["Flow", ...]


@dataclass(frozen=True, slots=True)
class Group(Startable):
    """Members side by side; the result is the list of theirs, in their order."""

    members: tuple["Flow", ...]


Flow = Signature[Any] | Chain | Group


def signatures(flow: Flow) -> Iterator[Signature[Any]]:
    """The jobs of a flow, without callbacks, in their order."""
    if isinstance(flow, Signature):
        yield flow
        return
    for part in flow.steps if isinstance(flow, Chain) else flow.members:
        yield from signatures(part)


def chain(*steps: Flow) -> Chain:
    """Steps one after the other; each gets the result of the one before. A group in it hands on a list."""
    return Chain(steps)


def group(*members: Flow | Iterable[Flow]) -> Group:
    """Members side by side: `group(a.s(1), b.s(2))`, `group(a.s(n) for n in range(100))`."""
    parts: list[Flow] = []
    for member in members:
        parts += [member] if isinstance(member, Signature | Startable) else member
    return Group(tuple(parts))


def chord(header: Group | Iterable[Flow], callback: Flow) -> Chain:
    """A group, then a callback that gets the list of all its results: a chain of the two."""
    return Chain((header if isinstance(header, Group) else Group(tuple(header)), callback))


@dataclass(slots=True)
class Node:
    """A job of the graph, or a join of `members`. Nodes are known by their place in the graph.

    after: the node whose value is this one's input. waits: how many must end well first; -1 for a handler of failures.
    then, failed: nodes that follow its success, handlers that follow its failure. is_callback: it follows success only,
    also where failures are values.
    """

    call: Signature[Any] | None = None
    members: tuple[int, ...] = ()
    after: int | None = None
    waits: int = 0
    then: list[int] = field(default_factory=list)
    failed: tuple[int, ...] = ()
    is_callback: bool = False

    @property
    def is_handler(self) -> bool:
        """Whether it starts when another failed."""
        return self.waits < 0


@dataclass(frozen=True, slots=True)
class Graph:
    """A compiled workflow. `last` is the node whose value is the result."""

    nodes: tuple[Node, ...]
    last: int

    @property
    def required(self) -> int:
        """How many nodes must end well for the whole to succeed."""
        return sum(not node.is_handler for node in self.nodes)


def compile_graph(
    flow: Flow, on_success: Signature[Any] | None = None, on_error: Signature[Any] | None = None
) -> Graph:
    """Turn a flow and its callbacks into a graph.

    Raises:
        InvalidWorkflow: it is empty, too large or nested too deeply.
    """
    compiler = _Compiler()
    if on_error is not None:
        compiler.handlers = (compiler.add(Node(call=on_error, waits=-1)),)
    last = compiler.place(flow, None, 0)
    compiler.handlers = ()
    if on_success is not None:
        compiler.callback(on_success, last)
    return Graph(tuple(compiler.nodes), last)


class _Compiler:
    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.handlers: tuple[int, ...] = ()

    def add(self, node: Node) -> int:
        if len(self.nodes) >= MOST_NODES:
            raise _invalid(f"must have at most {MOST_NODES:,} steps")
        self.nodes.append(node)
        number = len(self.nodes) - 1
        for before in node.members or (() if node.after is None else (node.after,)):
            self.nodes[before].then.append(number)
        return number

    def place(self, flow: Flow, after: int | None, depth: int) -> int:
        """Add a flow's nodes behind `after`; the node whose value is the flow's."""
        if depth > DEEPEST:
            raise _invalid(f"must be nested at most {DEEPEST} levels deep")
        if isinstance(flow, Signature):
            return self._job(flow, after)
        if isinstance(flow, Group):
            return self._group(flow, after, depth)
        for step in flow.steps:
            after = self.place(step, after, depth + 1)
        if not flow.steps or after is None:
            raise _invalid("a chain must have at least one step")
        return after

    def _job(self, call: Signature[Any], after: int | None) -> int:
        on_success, on_error = call.options.get("on_success"), call.options.get("on_error")
        own = () if on_error is None else (self.add(Node(call=on_error, waits=-1)),)
        waits = 0 if after is None else 1
        number = self.add(Node(call=call, after=after, waits=waits, failed=(*own, *self.handlers)))
        if on_success is not None:
            self.callback(on_success, number)
        return number

    def callback(self, call: Signature[Any], after: int) -> None:
        """Add what follows a success; its own failure has no handler."""
        self.add(Node(call=call, after=after, waits=1, is_callback=True))

    def _group(self, flow: Group, after: int | None, depth: int) -> int:
        members = tuple(self.place(member, after, depth + 1) for member in flow.members)
        if members:
            return self.add(Node(members=members, waits=len(members)))
        return self.add(Node(after=after, waits=0 if after is None else 1))


def _invalid(message: str) -> InvalidWorkflow:
    return InvalidWorkflow([ArgumentProblem((), message)])
