"""What a job is to those who look it up: its states, the transitions between them, and its record."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from worker.core.texts import LONGEST_PROGRESS, head

LARGEST_COUNT = 2**53  # above it, readers of JSON lose digits
LATEST_MS = 253_370_764_800_000  # the start of 9999: also in a zone ahead of UTC it is a time that Python can hold


class State(StrEnum):
    """Where a job is in its life. The last four are final."""

    DEFERRED = "deferred"
    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def ended(self) -> bool:
        """Whether nothing follows."""
        return not TRANSITIONS[self]


_LEAVES_THE_QUEUE = frozenset({State.RUNNING, State.CANCELLED, State.EXPIRED, State.FAILED})

TRANSITIONS: dict[State, frozenset[State]] = {
    State.DEFERRED: _LEAVES_THE_QUEUE | {State.QUEUED},
    State.QUEUED: _LEAVES_THE_QUEUE,
    State.RETRYING: _LEAVES_THE_QUEUE,
    State.RUNNING: frozenset(
        {
            State.SUCCEEDED,
            State.FAILED,
            State.CANCELLED,
            State.EXPIRED,
            State.RETRYING,
            State.QUEUED,
            State.DEFERRED,
        }
    ),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
    State.EXPIRED: frozenset(),
}


class Priority(StrEnum):
    """The levels inside a queue. How low levels keep moving: see `docs/queues.md`."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


def _whole(number: float) -> int:
    return max(-LARGEST_COUNT, min(LARGEST_COUNT, int(number)))


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running job says it is: `current` of `total` (None: unknown), a message, and `meta`: anything else, as
    JSON."""

    current: int
    total: int | None = None
    message: str | None = None
    meta: dict[str, Any] | None = None

    @classmethod
    def of(cls, current: float, total: float | None, message: object, meta: dict[str, Any] | None = None) -> "Progress":
        """What a job reports: integers that JSON readers keep exact, and a message of at most 1,000 characters."""
        told = None if message is None else head(message, LONGEST_PROGRESS)
        return cls(_whole(current), None if total is None else _whole(total), told, meta)

    @property
    def percent(self) -> float | None:
        """0 to 100 with one decimal, or None while the total is unknown."""
        if not self.total:
            return None
        return round(min(100.0, 100.0 * self.current / self.total), 1)


Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed: the exception's type, its message, and the traceback if there was one.

    path: of the exception's class, `module:Name`, where a worker of this release or a later one wrote it. args: the
    exception's, where they are not its message alone.
    """

    type: str
    message: str
    traceback: str | None = None
    path: str | None = field(default=None, compare=False)
    args: tuple[Scalar, ...] | None = field(default=None, compare=False)


def read_error(value: Any) -> JobError | None:
    """A failure as `docs/wire.md` describes it, or whatever another writer put there, as text."""
    if value is None:
        return None
    if isinstance(value, dict) and {"type", "message"} <= value.keys():
        path, args = value.get("class"), value.get("args")
        plain = tuple(args) if isinstance(args, list) and all(isinstance(each, Scalar) for each in args) else None
        return JobError(
            str(value["type"]),
            str(value["message"]),
            value.get("traceback"),
            path if isinstance(path, str) else None,
            plain,
        )
    return JobError("Error", str(value))


@dataclass(frozen=True, slots=True)
class JobAttempt:
    """One start of a job. `outcome` is a final state, `retry`, or `lost`: its worker fell silent."""

    number: int
    outcome: str
    started_at: datetime
    finished_at: datetime | None
    worker: str | None
    error: JobError | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A job as one look-up saw it. Times are aware UTC."""

    id: str
    name: str
    queue: str
    priority: Priority
    state: State
    args: dict[str, Any]
    tries: int
    max_tries: int | None
    enqueued_at: datetime
    scheduled_for: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    progress: Progress | None = None
    result: Any = None
    error: JobError | None = None
    worker: str | None = None
    tags: tuple[str, ...] = ()
    workflow_id: str | None = None
    attempts: tuple[JobAttempt, ...] = ()


def now_ms() -> int:
    """Unix milliseconds by this machine's clock."""
    return time.time_ns() // 1_000_000


def to_ms(moment: datetime) -> int:
    """Unix milliseconds from an aware time."""
    return round(moment.timestamp() * 1000)


def from_ms(milliseconds: float) -> datetime:
    """An aware UTC time from Unix milliseconds. What is before 1970 or after 9998 is clamped: others write to Redis as
    well, and a look-up must be able to show it."""
    within = max(0, min(milliseconds, LATEST_MS))  # in this order NaN is 0, and no integer is too large for a float
    return datetime.fromtimestamp(within / 1000, UTC)
