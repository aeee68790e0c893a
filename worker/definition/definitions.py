"""What a job is: a function, what was declared of it, and the calls that are made of it."""

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypedDict, TypeVar, Unpack

from worker.core.calls import Call
from worker.core.context import Context, current_context
from worker.core.errors import DefinitionError, UnknownResource
from worker.core.handle import JobHandle
from worker.core.job import Priority
from worker.core.limits import Limit
from worker.core.options import EnqueueOptions, check_options
from worker.core.retries import RetryPolicy
from worker.core.signature import Signature
from worker.core.sync_handle import SyncJobHandle
from worker.definition.arguments import ArgumentSchema, label_of
from worker.definition.places import Origin

if TYPE_CHECKING:
    from worker.definition.registry import Registry

P = ParamSpec("P")
R = TypeVar("R")


class JobOptions(TypedDict, total=False):
    """What `@job(...)` takes. Times are seconds.

    name: on the wire; the function's name by default. aliases: former names, still understood.
    max_tries: starts at most. retry: which exceptions are tried again, and when.
    soft_timeout: after it the job sees `SoftTimeLimitExceeded`. timeout: after it the try is stopped.
    result_ttl: how long results are kept; None without end, 0 not at all.
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
    limits: Limit | Sequence[Limit]
    process: bool
    unique_for: float
    debounce: float
    throttle: float
    soft_timeout: float
    timeout: float
    result_ttl: float | None


class JobDefinition(Generic[P, R]):
    """A job function and what was declared about it. Calling it runs the function here, without a queue."""

    def __init__(self, function: Callable[..., Awaitable[R] | R], registry: "Registry", declared: JobOptions) -> None:
        self.function = function
        self.name = declared.get("name", function.__name__)
        self.path = f"{function.__module__}.{function.__qualname__}"
        self.origin = Origin.of(function)
        self.declared = declared
        self.registry = registry
        self.is_async = inspect.iscoroutinefunction(function)
        self.in_process = declared.get("process", False)
        self.__doc__ = function.__doc__
        if not re.fullmatch(r"[^\W\d][\w.:-]{0,199}", self.name):
            raise DefinitionError(f"job {self.name[:50]!r}: its name must be 1 to 200 letters, digits, _ . : -")
        if self.in_process and (self.is_async or "<locals>" in self.path):
            raise DefinitionError(f"{self.label}: with process=True it must be a plain `def` at the top of a module")

    @property
    def queue(self) -> str:
        """Where calls go that name no queue: as declared, else by the registry's routes."""
        return self.declared.get("queue") or self.registry.queue_for(self.path)

    @property
    def label(self) -> str:
        """The job's name and where it is, for messages."""
        return label_of(self.name, self.function)

    def is_same_as(self, other: "JobDefinition[..., Any]") -> bool:
        """Whether the other was made of the same function, maybe when its module was loaded before."""
        if self.path != other.path:
            return False
        return self.origin is None or other.origin is None or not self.origin.hides(other.origin)

    @property
    def limits(self) -> tuple[Limit, ...]:
        """What it was declared with."""
        declared = self.declared.get("limits", ())
        return tuple(declared) if isinstance(declared, Sequence) else (declared,)

    @cached_property
    def schema(self) -> ArgumentSchema:
        """What the function takes; built at discovery, when all annotations can be resolved."""
        schema = ArgumentSchema(self.name, self.function, self.registry.resource_types)
        for name, kind in schema.injected.items():
            if not self.is_async and (self.in_process or self.registry.opens_per_try(kind)):
                raise DefinitionError(f"{self.label}: it must be an `async def` to be given {name!r}")
        for limit in self.limits:
            if limit.by is not None and limit.by not in schema.names:
                arguments = ", ".join(schema.names) or "none"
                wrong = f"a limit must be by one of its arguments ({arguments}), not {limit.by!r}"
                raise DefinitionError(f"{self.label}: {wrong}")
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
        """Call the function, with the context first if it takes one."""
        if self.schema.takes_context:
            return self.function(context, *args, **kwargs)
        return self.function(*args, **kwargs)

    def bound(self, context: Context, arguments: Mapping[str, Any]) -> Callable[[], Awaitable[R] | R]:
        """The function with its arguments, for a thread: as `invoke`, but without Python code of ours between the
        function's return and the caller, where an asynchronous exception could discard the result."""
        first = (context,) if self.schema.takes_context else ()
        return partial(self.function, *first, **arguments)

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

    def enqueue_sync(self, *args: P.args, **kwargs: P.kwargs) -> SyncJobHandle[R]:
        """Queue the job by the `SyncClient` that is open: for callers that cannot await. Raises as `enqueue`."""
        return self.registry.sync_producer.enqueue(self.call(*args, **kwargs))

    def s(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """The job as a step of a workflow. After another step it gets that step's result as the first argument that is
        not given by name; `args` come after it."""
        return Signature(self, args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """The job as a step that takes no result."""
        return Signature(self, args, kwargs, immutable=True)

    async def enqueue_in(self, session: Any, *args: P.args, **kwargs: P.kwargs) -> str:
        """Queue the job if and when the transaction of `session` commits; the id that it will have.

        Raises:
            InvalidArguments: they do not fit the signature.
        """
        return await self.registry.outbox.put(session, self.call(*args, **kwargs))

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
        return await self._definition.registry.outbox.put(session, self.call(*args, **kwargs))

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Queue the job; raises as `JobDefinition.enqueue` does."""
        return await self._definition.registry.producer.enqueue(self.call(*args, **kwargs))

    def enqueue_sync(self, *args: P.args, **kwargs: P.kwargs) -> SyncJobHandle[R]:
        """Queue the job; see `JobDefinition.enqueue_sync`."""
        return self._definition.registry.sync_producer.enqueue(self.call(*args, **kwargs))
