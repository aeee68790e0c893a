"""The registry: `@job`, `@schedule` and `@resource` register what they decorate, to be found by name or type."""

from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from fnmatch import fnmatchcase
from typing import Any, Concatenate, Literal, ParamSpec, TypedDict, TypeVar, Unpack, overload

from worker.core.context import Context
from worker.core.cron import Every
from worker.core.errors import DefinitionError, InvalidArguments, UnknownJob, UnknownResource
from worker.core.hooks import EndHook, Hooks, StartHook, checked
from worker.core.options import EnqueueOptions, check_options
from worker.core.schedule import ScheduleRecord, make_record
from worker.definition.declaring import check_declared, check_function
from worker.definition.definitions import JobDefinition, JobOptions
from worker.definition.places import place_of
from worker.definition.producers import Producers
from worker.definition.resources import Provider, is_per_try, provided_type

P = ParamSpec("P")
R = TypeVar("R")
D = TypeVar("D", bound=JobDefinition[..., Any])
Start = TypeVar("Start", bound=StartHook)
End = TypeVar("End", bound=EndHook)


class ScheduleOptions(TypedDict, total=False):
    """What `@schedule(when, ...)` takes besides `when`.

    name: the job's name by default; a second schedule of a job needs one. tz: of a cron expression, UTC by default.
    args, options: of each run, as a call has them. jitter: seconds by which a run may be moved back.
    missed: what becomes of times that passed while nobody could fire: `once` (default) one run for all, `skip`, `all`.
    overlap: `allow` (default), or `skip` a time while the run before has not ended.
    run_at_startup: a run when a worker starts, too; workers that start within a minute count as one start.
    """

    name: str
    tz: str
    args: dict[str, Any]
    options: EnqueueOptions
    missed: Literal["skip", "once", "all"]
    overlap: Literal["allow", "skip"]
    jitter: float
    run_at_startup: bool


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
        """Register `function` and return its definition.

        Raises:
            DefinitionError: it cannot be a job, or another has its name.
        """
        check_function(function)
        definition = JobDefinition[Any, Any](function, self._registry, self._declared)
        self._registry.add(definition)
        return definition


class Registry(Producers):
    """Jobs by name and alias, and the resources they ask for."""

    def __init__(self) -> None:
        super().__init__()
        self._jobs: dict[str, JobDefinition[..., Any]] = {}
        self._names: dict[str, JobDefinition[..., Any]] = {}
        self._providers: dict[type, Provider] = {}
        self._routes: tuple[tuple[str, str], ...] = ()
        self._schedules: dict[str, ScheduleRecord] = {}
        self.hooks = Hooks()

    @overload
    def job(self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /) -> JobDefinition[P, R]: ...
    @overload
    def job(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> JobDefinition[P, R]: ...
    @overload
    def job(self, function: Callable[Concatenate[Context, P], R], /) -> JobDefinition[P, R]: ...
    @overload
    def job(self, function: Callable[P, R], /) -> JobDefinition[P, R]: ...
    @overload
    def job(self, **declared: Unpack[JobOptions]) -> JobDecorator: ...
    def job(self, *functions: Callable[..., Any], **declared: Any) -> Any:
        """Decorate a function as a job, `@job` or with options, `@job(queue="emails")`; see `JobOptions`.

        Raises:
            InvalidOptions: a declared option is out of range.
            DefinitionError: an option is unknown or of a wrong kind, a name empty or too long.
        """
        decorator = JobDecorator(self, check_declared(declared))
        return decorator(*functions) if functions else decorator

    def schedule(self, when: str | Every, **declared: Unpack[ScheduleOptions]) -> Callable[[D], D]:
        """Run a job at times: `@schedule("0 3 * * *", tz="Europe/Berlin")` or `@schedule(every(30))` above its `@job`.
        Six fields begin with the second.

        Raises:
            InvalidSchedule: the expression, the zone or the name is wrong.
            DefinitionError: another schedule has the name, or it does not stand above a `@job`.
        """
        if not isinstance(when, str | Every):
            raise DefinitionError('@schedule must say when: @schedule("0 3 * * *"), or @schedule(every(30))')
        at = {"every": when.seconds} if isinstance(when, Every) else {"cron": when}
        # Checked here too, so that the traceback shows the line of the @schedule; its job is not known yet.
        make_record({"name": "unnamed", "job": "", **declared, **at, "declared": True})

        def add(definition: D) -> D:
            if not isinstance(definition, JobDefinition):
                what = f"{getattr(definition, '__name__', definition)!r} ({place_of(definition)})"
                raise DefinitionError(f"@schedule must stand above the @job of {what}: swap the two lines")
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

    def on_job_start(self, hook: Start) -> Start:
        """Decorate `async def hook(ctx)`, to be called before each try of a job. Its time does not count towards the
        job's limits."""
        self.hooks.start.append(checked(hook, "on_job_start", "ctx"))
        return hook

    def on_job_end(self, hook: End) -> End:
        """Decorate `async def hook(ctx, end)`, to be called when a try has ended, before that is stored."""
        self.hooks.end.append(checked(hook, "on_job_end", "ctx", "end"))
        return hook

    def after_job_end(self, hook: End) -> End:
        """Decorate `async def hook(ctx, end)`, to be called when the end of a try is stored, so that others may see it
        already."""
        self.hooks.after.append(checked(hook, "after_job_end", "ctx", "end"))
        return hook

    def replace_provider(self, kind: type, provider: Provider) -> Provider:
        """Replace the provider of a type; returns the one before.

        Raises:
            UnknownResource: nothing provides this type.
        """
        if kind not in self._providers:
            raise UnknownResource(f"nothing provides {kind.__name__}: mark a function with @resource")
        before, self._providers[kind] = self._providers[kind], provider
        return before

    def add(self, definition: JobDefinition[..., Any]) -> None:
        """Register a definition.

        Raises:
            DefinitionError: another function has the name already.
        """
        for name in (definition.name, *definition.declared.get("aliases", ())):
            other = self._names.get(name)
            # The same function twice is a module imported again, as reloaders and notebooks do: the newer one counts.
            if other is not None and not definition.is_same_as(other):
                both = " and ".join(f"{each.path} ({place_of(each.function)})" for each in (other, definition))
                raise DefinitionError(f"two jobs are named {name!r}: {both}; give one @job(name=...)")
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

    @property
    def by_name(self) -> Mapping[str, JobDefinition[..., Any]]:
        """Jobs by all names that they are known by, aliases too; those that are registered later come into it."""
        return self._names

    @property
    def names(self) -> Collection[str]:
        """All names that jobs are known by, aliases too."""
        return self._names.keys()

    def signatures(self) -> dict[str, str]:
        """Digests of what jobs take, by all names that they are known by."""
        return {name: definition.schema.digest for name, definition in self._names.items()}

    def route(self, routes: Sequence[tuple[str, str]]) -> None:
        """Route jobs that declare no queue by the patterns of their paths: `[("jobs.emails.*", "emails")]`; the first
        match wins."""
        self._routes = tuple(routes)

    def queue_for(self, path: str) -> str:
        """The queue of a job at this path."""
        return next((queue for pattern, queue in self._routes if fnmatchcase(path, pattern)), "default")

    def __iter__(self) -> Iterator[JobDefinition[..., Any]]:
        return iter(self._jobs.values())

    @property
    def queues(self) -> set[str]:
        """The queues that calls of these jobs go to where they name none."""
        return {definition.queue for definition in self}

    @property
    def schedules(self) -> list[ScheduleRecord]:
        """The schedules that were declared."""
        return list(self._schedules.values())

    def warnings(self) -> dict[str, str]:
        """What may surprise people about schedules, by their names."""
        return {record.name: record.warning for record in self.schedules if record.warning is not None}

    def check(self) -> None:
        """Check all signatures, and the arguments of schedules and limits against them.

        Raises:
            DefinitionError: one is wrong, or a job asks for a resource that nobody provides.
        """
        for definition in self:
            for name, kind in definition.schema.injected.items():
                if kind not in self._providers:
                    raise DefinitionError(_unprovided(definition, name, kind))
        for record in self.schedules:
            definition = self.get(record.job)
            try:
                definition.call_with(record.args, check_options(record.job, record.options))
            except InvalidArguments as error:
                raise DefinitionError(f"schedule {record.name!r} of {definition.label}: {error}") from error

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
        return kind in self._providers and is_per_try(self._providers[kind])

    @asynccontextmanager
    async def given(self, wanted: Mapping[str, type], context: Context) -> AsyncIterator[dict[str, Any]]:
        """The resources of a job, by the names of its parameters; those opened for this try are closed on leaving.

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


def _unprovided(definition: JobDefinition[..., Any], name: str, kind: type) -> str:
    type_of_it = getattr(kind, "__name__", kind)
    how = f"an `async def` under @resource that yields one and is annotated -> AsyncIterator[{type_of_it}]"
    return f"{definition.label}: a resource must provide `{name}: {type_of_it}`: write {how}, in a module with jobs"


registry = Registry()
job = registry.job
resource = registry.resource
schedule = registry.schedule
on_job_start = registry.on_job_start
on_job_end = registry.on_job_end
after_job_end = registry.after_job_end
