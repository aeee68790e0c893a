"""What a caller may ask of one call: the same table for Python (`.options(...)`) and HTTP (`"options"`)."""

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    ConfigDict,
    Field,
    InstanceOf,
    TypeAdapter,
    ValidationError,
    with_config,
)
from typing_extensions import TypedDict

from worker.errors import ArgumentProblem, InvalidOptions
from worker.job import Priority
from worker.signature import Signature

FORBID = ConfigDict(extra="forbid")


def _not_reserved(queue: str) -> str:
    if queue == "health-check":
        raise ValueError("arq keeps its health check under this name")
    return queue


QueueName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,100}$"), AfterValidator(_not_reserved)]
JobId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:@=~-]{1,200}$")]
_YEAR = 365 * 86400.0


@with_config(FORBID)
class EnqueueOptions(TypedDict, total=False):
    """Options of one call. All times are seconds.

    id: the job's id; a second call with the same id makes no second job.
    delay / run_at: when it is due, from now or as an aware time; not both.
    expires_in: not started within this time, it ends as `expired`.
    soft_timeout / timeout: the limits of a try; at the first the job is told, at the second it is stopped.
    result_ttl: how long the result is kept; None for ever, 0 drops it (its end stays visible for a minute).
    unique_for: for so long, calls with the same arguments are this one job.
    debounce: it starts so long after the last of such calls, with that call's options.
    throttle: it starts at once, then at most once in so long; calls between are one job, with the last one's options.
    unique_key: what makes calls the same for these three, in place of the arguments.
    durable: for `enqueue_in` only: the job stays in the database until it has ended, and comes back if Redis lost it.
    on_success / on_error: a signature that gets the result, or `{"job_id", "error"}` when the job has failed for good.
    """

    id: JobId
    queue: QueueName
    priority: Priority
    delay: Annotated[float, Field(ge=0, le=10 * _YEAR)]
    run_at: AwareDatetime
    expires_in: Annotated[float, Field(gt=0, le=10 * _YEAR)]
    soft_timeout: Annotated[float, Field(gt=0, le=_YEAR)]
    timeout: Annotated[float, Field(gt=0, le=_YEAR)]
    max_tries: Annotated[int, Field(ge=1, le=1000)]
    result_ttl: Annotated[float, Field(ge=0, le=10 * _YEAR)] | None
    tags: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=100)], ...], Field(max_length=20)]
    unique_for: Annotated[float, Field(gt=0, le=_YEAR)]
    debounce: Annotated[float, Field(gt=0, le=_YEAR)]
    throttle: Annotated[float, Field(gt=0, le=_YEAR)]
    unique_key: Annotated[str, Field(min_length=1, max_length=200)]
    durable: bool
    on_success: InstanceOf[Signature[Any]]
    on_error: InstanceOf[Signature[Any]]


CALLBACKS = ("on_success", "on_error")

# Of each of these only one may be given.
EXCLUSIVE = (
    ("delay", "run_at", "debounce", "throttle"),
    ("unique_for", "debounce", "throttle"),
    ("unique_for", "durable"),
    ("debounce", "durable"),
    ("throttle", "durable"),
    ("unique_for", "on_success"),
    ("unique_for", "on_error"),
    ("debounce", "on_success"),
    ("debounce", "on_error"),
    ("throttle", "on_success"),
    ("throttle", "on_error"),
)

_ADAPTER: TypeAdapter[EnqueueOptions] = TypeAdapter(EnqueueOptions)


def check_options(job: str, options: Any) -> EnqueueOptions:
    """Validate options from any caller.

    Raises:
        InvalidOptions: an option is unknown, out of range, or contradicts another.
    """
    try:
        checked = _ADAPTER.validate_python(options)
    except ValidationError as error:
        raise InvalidOptions(job, problems(error, "options")) from error
    for names in EXCLUSIVE:
        given = [name for name in names if name in checked]
        if len(given) > 1:
            clash = ArgumentProblem(("options", given[1]), f"give either {given[0]} or {given[1]}, not both")
            raise InvalidOptions(job, [clash])
    return checked


def problems(error: ValidationError, root: str) -> list[ArgumentProblem]:
    """Pydantic's errors as problems below `root`."""
    return [ArgumentProblem((root, *problem["loc"]), problem["msg"]) for problem in error.errors()]
