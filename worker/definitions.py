"""`@job`: a function becomes a job with declared options; the registry knows all of them by name."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Concatenate, Generic, Literal, ParamSpec, Protocol, TypedDict, TypeVar, Unpack, overload

from worker.arguments import ArgumentSchema
from worker.context import Context, current_context
from worker.cron import Every
from worker.errors import DefinitionError, EmbarqError, UnknownJob, UnknownResource
from worker.handle import JobHandle, WorkflowHandle
from worker.job import Priority
from worker.limits import Limit
from worker.options import EnqueueOptions, check_options
from worker.resources import Provider, is_per_try, provided_type
from worker.retries import RetryPolicy
from worker.schedules import ScheduleRecord, make_record
from worker.signature import Signature
from worker.workflows import Flow, WorkflowOptions

P = ParamSpec("P")
R = TypeVar("R")
D = TypeVar("D", bound="JobDefinition[..., Any]")


NOT_OF_A_CALL = frozenset({"name", "aliases", "retry", "process", "limits"})


class JobOptions(TypedDict, total=False):
    """What `@job(...)` takes. Times are seconds.

    name: on the wire; the function's name by default. aliases: former names, still understood.
    max_tries: starts at most. retry: which exceptions are tried again, and when.
    soft_timeout: after it the job sees `SoftTimeLimitExceeded`. timeout: after it the try is stopped.
    result_ttl: how long results are kept; None for ever, 0 not.
    unique_for, debounce, throttle: see `EnqueueOptions`.
    limits: how often it may start and how many may run, over all workers, also by the value of an argument.
    process: run a plain function in a process of its own, which a hard limit or a cancellation kills.
    """

    name: str
    aliases: tuple[str, ...]
    queue: str
    priority: Priority
    max_tries: int
    retry: RetryPolicy
    limits: Sequence[Limit]
    process: bool
    unique_for: float
    debounce: float
    throttle: float
    soft_timeout: float
    timeout: float
    result_ttl: float | None


class ScheduleOptions(TypedDict, total=False):
    """What `@schedule(when, ...)` takes besides `when`.

    name: the job's name by default; a second schedule of a job needs one. tz: of a cron expression, UTC by default.
    args, options: of each run, as a call has them. jitter: seconds by which a run may be moved back.
    missed: what becomes of times that passed while nobody could fire: `once` (default) one run for all, `skip`, `all`.
    overlap: `allow` (default), or `skip` a time while the run before has not ended.
    """

    name: str
    tz: str
    args: dict[str, Any]
    options: EnqueueOptions
    missed: Literal["skip", "once", "all"]
    overlap: Literal["allow", "skip"]
    jitter: float


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    """A job with checked, JSON-ready arguments and options: what a client enqueues."""

    definition: "JobDefinition[..., R]"
    arguments: Mapping[str, Any]
    options: EnqueueOptions = field(default_factory=EnqueueOptions)


class Producer(Protocol):
    """Whoever puts calls into a queue: the client."""

    async def enqueue(self, call: Call[R]) -> JobHandle[R]:
        """Queue one call and return a handle on its job."""
        ...

    async def start(self, flow: Flow, options: WorkflowOptions) -> WorkflowHandle:
        """Start a workflow and return a handle on it."""
        ...


class JobDefinition(Generic[P, R]):
    """A job function and what was declared about it. Calling it runs the function here, without a queue."""

    def __init__(self, function: Callable[..., Awaitable[R] | R], registry: "Registry", declared: JobOptions) -> None:
        self.function = function
        self.name = declared.get("name", function.__name__)
        self.path = f"{function.__module__}.{function.__qualname__}"
        self.declared = declared
        self.registry = registry
        self.is_async = inspect.iscoroutinefunction(function)
        self.in_process = declared.get("process", False)
        self.__doc__ = function.__doc__
        if self.in_process and (self.is_async or "<locals>" in self.path):
            raise DefinitionError(f"job {self.name!r}: process=True needs a plain function of a module")

    @property
    def queue(self) -> str:
        """Where calls go that name no queue: as declared, else by the registry's routes."""
        return self.declared.get("queue") or self.registry.queue_for(self.path)

    @cached_property
    def schema(self) -> ArgumentSchema:
        """What the function takes; built at discovery, when all annotations can be resolved."""
        schema = ArgumentSchema(self.name, self.function, self.registry.resource_types)
        for name, kind in schema.injected.items():
            if not self.is_async and (self.in_process or self.registry.opens_per_try(kind)):
                raise DefinitionError(f"job {self.name!r}: {name!r} can be given to a coroutine only")
        for limit in self.declared.get("limits", ()):
            if limit.by is not None and limit.by not in schema.names:
                raise DefinitionError(f"job {self.name!r}: a limit is by {limit.by!r}, which is no argument of it")
        return schema

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function directly, in the job that runs here or in a context of its own."""
        context = current_context() or Context(job_id="direct", job=self.name)
        missing = [name for name in self.schema.injected if name not in kwargs]
        if missing:
            raise UnknownResource(f"job {self.name!r}, called directly, must be given {missing[0]}=...")
        returned = self.invoke(context, args, kwargs)
        return await returned if inspect.isawaitable(returned) else returned

    def invoke(self, context: Context, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Awaitable[R] | R:
        """Call the function, with its context first if it takes one."""
        if self.schema.takes_context:
            return self.function(context, *args, **kwargs)
        return self.function(*args, **kwargs)

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """Check the arguments and make a call that a client can enqueue.

        Raises:
            InvalidArguments: they do not fit the signature.
        """
        return self.call_with(self.schema.bind(args, kwargs), EnqueueOptions())

    def call_with(self, arguments: Mapping[str, Any], options: EnqueueOptions) -> Call[R]:
        """Make a call from arguments by name, as they come over HTTP."""
        checked = self.schema.to_json(self.schema.validate(arguments))
        return Call(self, checked, options)

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Queue the job with its declared options.

        Raises:
            InvalidArguments: they do not fit the signature.
            BrokerUnavailable: Redis did not answer; the same id may be tried again.
        """
        return await self.registry.producer.enqueue(self.call(*args, **kwargs))

    def s(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """The job as a step of a workflow. Behind another step it gets that step's result as the first argument that
        is not given by name; `args` come after it."""
        return Signature(self, args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """The job as a step that takes no result."""
        return Signature(self, args, kwargs, immutable=True)

    async def enqueue_in(self, session: Any, *args: P.args, **kwargs: P.kwargs) -> str:
        """Queue the job if and when the transaction of `session` commits; the id that it will have.

        Raises:
            InvalidArguments: they do not fit the signature.
        """
        return await put_into_outbox(session, self.call(*args, **kwargs))

    def options(self, **options: Unpack[EnqueueOptions]) -> "BoundJob[P, R]":
        """The same job with options for one call: `await send_email.options(delay=60).enqueue(...)`.

        Raises:
            InvalidOptions: an option is unknown, out of range, or contradicts another.
        """
        return BoundJob(self, check_options(self.name, options))

    def __repr__(self) -> str:
        return f"<job {self.name}: {self.path}>"


class BoundJob(Generic[P, R]):
    """A job with the options of a call, waiting for its arguments."""

    def __init__(self, definition: JobDefinition[P, R], options: EnqueueOptions) -> None:
        self._definition = definition
        self._options = options

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """Check the arguments and make a call; raises as `JobDefinition.call` does."""
        return self._definition.call_with(self._definition.schema.bind(args, kwargs), self._options)

    def s(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """The job as a step of a workflow; see `JobDefinition.s`."""
        return Signature(self._definition, args, kwargs, self._options)

    def si(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """The job as a step that takes no result."""
        return Signature(self._definition, args, kwargs, self._options, immutable=True)

    async def enqueue_in(self, session: Any, *args: P.args, **kwargs: P.kwargs) -> str:
        """Queue the job if and when a transaction commits; see `JobDefinition.enqueue_in`."""
        return await put_into_outbox(session, self.call(*args, **kwargs))

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Queue the job; raises as `JobDefinition.enqueue` does."""
        return await self._definition.registry.producer.enqueue(self.call(*args, **kwargs))


async def put_into_outbox(session: Any, call: Call[Any]) -> str:
    """Write a call in a transaction of the database."""
    from worker import outbox  # noqa: PLC0415  # SQLAlchemy is loaded by those who have a session

    return await outbox.put(session, call)


class JobDecorator:
    """What `@job(...)` returns: it keeps the types of the function that it decorates."""

    def __init__(self, registry: "Registry", declared: JobOptions) -> None:
        self._registry = registry
        self._declared = declared

    @overload
    def __call__(self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]]) -> JobDefinition[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]]) -> JobDefinition[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Context, P], R]) -> JobDefinition[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R]) -> JobDefinition[P, R]: ...
    def __call__(self, function: Callable[..., Any]) -> JobDefinition[Any, Any]:
        """Register `function` and return its definition."""
        definition = JobDefinition[Any, Any](function, self._registry, self._declared)
        self._registry.add(definition)
        return definition


class Registry:
    """Jobs by name and alias, and the resources they ask for."""

    def __init__(self) -> None:
        self._jobs: dict[str, JobDefinition[..., Any]] = {}
        self._names: dict[str, JobDefinition[..., Any]] = {}
        self._providers: dict[type, Provider] = {}
        self._producer: Producer | None = None
        self._routes: tuple[tuple[str, str], ...] = ()
        self._schedules: dict[str, ScheduleRecord] = {}

    def job(self, **declared: Unpack[JobOptions]) -> JobDecorator:
        """Decorate a function as a job; see `JobOptions`.

        Raises:
            InvalidOptions: a declared option is out of range.
        """
        checked = {k: v for k, v in declared.items() if k not in NOT_OF_A_CALL}
        check_options(declared.get("name", "@job"), checked)
        return JobDecorator(self, declared)

    def schedule(self, when: str | Every, **declared: Unpack[ScheduleOptions]) -> Callable[[D], D]:
        """Run a job at times: `@schedule("0 3 * * *", tz="Europe/Berlin")` or `@schedule(every(30))` above its `@job`.

        Raises:
            InvalidSchedule: the expression, the zone or the name is wrong.
            DefinitionError: another schedule has the name.
        """
        at = {"every": when.seconds} if isinstance(when, Every) else {"cron": when}
        make_record({"name": "unnamed", "job": "", **declared, **at})

        def add(definition: D) -> D:
            record = make_record({"name": definition.name, **declared, **at, "job": definition.name, "declared": True})
            if record.name in self._schedules:
                raise DefinitionError(f"two schedules are named {record.name!r}: give one @schedule(..., name=...)")
            self._schedules[record.name] = record
            return definition

        return add

    def resource(self, provider: Provider) -> Provider:
        """Decorate an async generator function that opens, yields and closes a resource."""
        self._providers[provided_type(provider)] = provider
        return provider

    def add(self, definition: JobDefinition[..., Any]) -> None:
        """Register a definition.

        Raises:
            DefinitionError: another function has the name already.
        """
        for name in (definition.name, *definition.declared.get("aliases", ())):
            other = self._names.get(name)
            if other is not None and other.path != definition.path:
                raise DefinitionError(
                    f"two jobs are named {name!r}: {other.path} and {definition.path}; give one @job(name=...)"
                )
            self._names[name] = definition
        self._jobs[definition.name] = definition

    def get(self, name: str) -> JobDefinition[..., Any]:
        """The job of this name or alias.

        Raises:
            UnknownJob: there is none.
        """
        try:
            return self._names[name]
        except KeyError:
            raise UnknownJob(name) from None

    def route(self, routes: Sequence[tuple[str, str]]) -> None:
        """Send jobs that declare no queue by the patterns of their paths: `[("jobs.emails.*", "emails")]`, the first
        that fits."""
        self._routes = tuple(routes)

    def queue_for(self, path: str) -> str:
        """The queue of a job at this path."""
        return next((queue for pattern, queue in self._routes if fnmatchcase(path, pattern)), "default")

    def __iter__(self) -> Iterator[JobDefinition[..., Any]]:
        return iter(self._jobs.values())

    @property
    def schedules(self) -> list[ScheduleRecord]:
        """The schedules that were declared."""
        return list(self._schedules.values())

    def check(self) -> None:
        """Look at all signatures, and at what schedules and limits say of them.

        Raises:
            DefinitionError, InvalidArguments, InvalidOptions: one is wrong.
        """
        for definition in self:
            definition.schema  # noqa: B018  # building it checks the annotations
        for record in self.schedules:
            self.get(record.job).call_with(record.args, check_options(record.job, record.options))

    @property
    def providers(self) -> list[Provider]:
        """The providers of what is opened once a worker, in the order of registration."""
        return [provider for provider in self._providers.values() if not is_per_try(provider)]

    @property
    def resource_types(self) -> frozenset[type]:
        """All types that jobs may ask for."""
        return frozenset(self._providers)

    def opens_per_try(self, kind: type) -> bool:
        """Whether a resource is opened anew for each try."""
        return is_per_try(self._providers[kind])

    @asynccontextmanager
    async def given(self, wanted: Mapping[str, type], context: Context) -> AsyncIterator[dict[str, Any]]:
        """What a job asks for, by the names of its parameters; what is opened for this try is closed on leaving.

        Raises:
            UnknownResource: the worker has not opened it.
        """
        async with AsyncExitStack() as stack:
            found: dict[str, Any] = {}
            for name, kind in wanted.items():
                if self.opens_per_try(kind):
                    opened = asynccontextmanager(self._providers[kind])(context)
                    found[name] = await stack.enter_async_context(opened)
                else:
                    found[name] = context.resource(kind)
            yield found

    @property
    def producer(self) -> Producer:
        """The client that `.enqueue(...)` uses in this process.

        Raises:
            EmbarqError: no client was bound.
        """
        if self._producer is None:
            raise EmbarqError("no client in this process: call registry.bind(client) at start-up")
        return self._producer

    def bind(self, producer: Producer | None) -> None:
        """Name the client that `.enqueue(...)` uses in this process."""
        self._producer = producer


registry = Registry()
job = registry.job
resource = registry.resource
schedule = registry.schedule
