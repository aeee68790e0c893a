"""What a caller may ask of one call: the same table for Python (`.options(...)`) and HTTP (`"options"`)."""

from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice
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

from worker.core.errors import ArgumentProblem, InvalidOptions
from worker.core.job import Priority
from worker.core.keys import BY_KEY, MARK, wrong_with_key
from worker.core.signature import Signature
from worker.core.suggestions import did_you_mean
from worker.core.wire import LONGEST_NAME

FORBID = ConfigDict(extra="forbid")


def _is_queue(queue: str) -> str:
    if queue == "health-check":
        raise ValueError("must not be health-check, under which arq keeps its health check")
    wrong = wrong_with_key(queue) if queue.startswith(BY_KEY) else None
    if wrong is not None:
        raise ValueError(wrong)
    return queue


def _zero_or_a_millisecond(seconds: float) -> float:
    if 0 < seconds < SHORTEST:
        raise ValueError(f"must be 0, or at least {SHORTEST} s, not {seconds}")
    return seconds


def _not_dots(name: str) -> str:
    if name in DOTS:
        raise ValueError(f"must not be {name}, which HTTP clients resolve as a folder")
    return name


DOTS = (".", "..")
QueueName = Annotated[
    str,
    Field(pattern=r"^([A-Za-z0-9_.-]{1,100}|key=[A-Za-z0-9_.:@/{}#+-]{1,200})$"),
    AfterValidator(_is_queue),
    AfterValidator(_not_dots),
]
SystemId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:@=~-]{1,200}$"), AfterValidator(_not_dots)]

YEAR = 365 * 86400.0
SHORTEST = 0.001  # seconds: Redis counts whole milliseconds, and refuses a life of none
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
MOST_PROBLEMS = 20  # shown in one error
LONGEST_MESSAGE = 300  # characters; pydantic's may quote the whole input
TOO_MANY_TO_LIST = 1000

Lasting = Annotated[float, Field(ge=SHORTEST, le=YEAR, allow_inf_nan=False)]
LongLasting = Annotated[float, Field(ge=SHORTEST, le=10 * YEAR, allow_inf_nan=False)]
FromNow = Annotated[float, Field(ge=0, le=10 * YEAR, allow_inf_nan=False)]
Kept = Annotated[float, Field(ge=0, le=10 * YEAR, allow_inf_nan=False), AfterValidator(_zero_or_a_millisecond)]
# Dates that Postgres and Python can hold, also with an offset.
Moment = Annotated[AwareDatetime, Field(ge=EARLIEST, lt=LATEST)]
Tag = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]


@with_config(FORBID)
class EnqueueOptions(TypedDict, total=False):
    """Options of one call. All times are seconds, a millisecond at least where nothing else is said.

    id: the job's id; a second call with the same id makes no second job.
    delay / run_at: when it is due, from now (0 or more) or as an aware time of 1970 to 2199; not both.
    expires_in: no try starts later than this after the enqueue; the job ends as `expired` then.
    soft_timeout / timeout: the limits of a try; at the first the job is signalled, at the second it is stopped.
    result_ttl: how long the result is kept; None without end, 0 drops it (its end stays visible for a minute).
    unique_for: for this long, calls with the same arguments are this one job.
    debounce: it starts this long after the last of such calls, with that call's options.
    throttle: it starts at once, then at most once in this time; calls in between are one job, with the last one's
        options.
    unique_key: what makes calls the same for these three, in place of the arguments.
    durable: for `enqueue_in` only: the job stays in the database until it has ended, and comes back if Redis lost it.
    on_success / on_error: a signature that gets the result, or `{"job_id", "error"}` when the job has failed for good.
    """

    id: SystemId
    queue: QueueName
    priority: Priority
    delay: FromNow
    run_at: Moment
    expires_in: LongLasting
    soft_timeout: Lasting
    timeout: Lasting
    max_tries: Annotated[int, Field(ge=1, le=1000)]
    result_ttl: Kept | None
    tags: Annotated[tuple[Tag, ...], Field(max_length=20, fail_fast=True)]
    unique_for: Lasting
    debounce: Lasting
    throttle: Lasting
    unique_key: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
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


def check_client_options(job: str, options: Any) -> EnqueueOptions:
    """Validate options that come from outside: over HTTP, or on the command line. They take no id of the system's own.

    Raises:
        InvalidOptions: as `check_options`, or the id holds `~`.
    """
    checked = check_options(job, options)
    if "id" in checked and not is_client_id(checked["id"]):
        raise InvalidOptions(job, [reserved_id()])
    return checked


def is_client_id(job_id: str) -> bool:
    """Whether a caller may give this id to a job or a workflow."""
    return MARK not in job_id


def reserved_id() -> ArgumentProblem:
    """What is wrong with an id that only the system itself may make."""
    return ArgumentProblem(("options", "id"), f"must not hold {MARK}, which marks ids that Embarq makes itself")


def check_options(job: str, options: Any) -> EnqueueOptions:
    """Validate options that code of this system gives; for those from outside there is `check_client_options`.

    Raises:
        InvalidOptions: an option is unknown, out of range, or contradicts another.
    """
    most = len(EnqueueOptions.__annotations__)
    if isinstance(options, dict) and len(options) > most:
        raise InvalidOptions(job, [ArgumentProblem(("options",), f"must be at most {most}, not {len(options)}")])
    try:
        checked = _ADAPTER.validate_python(options)
    except ValidationError as error:
        found = problems(error, "options")
        raise InvalidOptions(job, [_named(each, EnqueueOptions.__annotations__) for each in found]) from error
    for names in EXCLUSIVE:
        given = [name for name in names if name in checked]
        if len(given) > 1:
            clash = ArgumentProblem(("options", given[1]), f"must not be given with {given[0]}: choose one of the two")
            raise InvalidOptions(job, [clash])
    return checked


def problems(error: ValidationError, *root: str) -> list[ArgumentProblem]:
    """Pydantic's errors as problems below `root`, the first twenty of them. Thousands are not listed at all: pydantic
    builds the whole list, in time that grows with what a stranger sent."""
    count = error.error_count()
    if count > TOO_MANY_TO_LIST:
        return [ArgumentProblem(root, f"{count} problems, too many to list")]
    listed = error.errors(include_url=False, include_context=False, include_input=False)
    found = [
        ArgumentProblem((*root, *map(_short_part, each["loc"])), shortened(each["msg"], LONGEST_MESSAGE))
        for each in islice(listed, MOST_PROBLEMS)
    ]
    if count > MOST_PROBLEMS:
        found.append(ArgumentProblem(root, f"{count - MOST_PROBLEMS} more problems"))
    return found


UNKNOWN = "Extra inputs are not permitted"  # pydantic's own text


def _named(problem: ArgumentProblem, known: Iterable[str]) -> ArgumentProblem:
    """An unknown option, with the one that was meant."""
    if problem.message != UNKNOWN or len(problem.path) != 2:
        return problem
    return ArgumentProblem(problem.path, f"must be a known option{did_you_mean(str(problem.path[1]), known)}")


def _short_part(part: str | int) -> str | int:
    return shortened(part, LONGEST_NAME) if isinstance(part, str) else part


def shortened(text: str, most: int) -> str:
    """A text of at most `most` characters, and a mark where more followed."""
    return text if len(text) <= most else text[:most] + "…"
