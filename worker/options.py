"""What a caller may ask of one call: the same table for Python (`.options(...)`) and HTTP (`"options"`)."""

from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from worker.errors import ArgumentProblem, InvalidOptions
from worker.job import Priority


def _not_reserved(queue: str) -> str:
    if queue == "health-check":
        raise ValueError("arq keeps its health check under this name")
    return queue


QueueName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,100}$"), AfterValidator(_not_reserved)]
JobId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:@=-]{1,200}$")]
_YEAR = 365 * 86400.0


@with_config(ConfigDict(extra="forbid"))
class EnqueueOptions(TypedDict, total=False):
    """Options of one call. All times are seconds.

    id: the job's id; a second call with the same id makes no second job.
    delay / run_at: when it is due, from now or as an aware time; not both.
    expires_in: not started within this time, it ends as `expired`.
    soft_timeout / timeout: the limits of a try; at the first the job is told, at the second it is stopped.
    result_ttl: how long the result is kept; None for ever, 0 drops it (its end stays visible for a minute).
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
    if "delay" in checked and "run_at" in checked:
        clash = ArgumentProblem(("options", "run_at"), "give either delay or run_at, not both")
        raise InvalidOptions(job, [clash])
    return checked


def problems(error: ValidationError, root: str) -> list[ArgumentProblem]:
    """Pydantic's errors as problems below `root`."""
    return [ArgumentProblem((root, *problem["loc"]), problem["msg"]) for problem in error.errors()]
