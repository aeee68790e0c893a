"""What a schedule is: when, which job, and what to do about missed runs and overlaps. Firing is `scheduler`'s."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice, takewhile
from typing import Any

import msgspec

from worker.core import wire
from worker.core.cron import Cron, Every, Times, zone
from worker.core.errors import ArgumentProblem, InvalidSchedule, NotSerializable
from worker.core.options import DOTS, MOST_PROBLEMS, shortened

MISSED_AFTER = timedelta(seconds=60)  # a worker that restarts within it has missed nothing
MOST_AT_ONCE = 500  # runs of one schedule: a year of missed minutes must not fill a queue in one step
LARGEST_RECORD = 64 * 1024
LONGEST_JOB_NAME = 200
LONGEST_JITTER = 86400.0
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")


class Missed(StrEnum):
    """What to do about times that passed while nobody could fire, for more than a minute.

    SKIP: nothing. ONCE: one run for all of them. ALL: a run for each.
    """

    SKIP = "skip"
    ONCE = "once"
    ALL = "all"


class Overlap(StrEnum):
    """What to do when the run before has not ended: start another, or skip this time."""

    ALLOW = "allow"
    SKIP = "skip"


class ScheduleRecord(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A schedule as Redis keeps it. Exactly one of `cron` and `every` is given; `jitter` is in seconds.

    `run_at_startup`, of those in code: a run when a worker starts, too.
    """

    name: str
    job: str
    declared: bool = False
    cron: str | None = None
    every: float | None = None
    tz: str = "UTC"
    args: dict[str, Any] = msgspec.field(default_factory=dict)
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    missed: Missed = Missed.ONCE
    overlap: Overlap = Overlap.ALLOW
    jitter: float = 0.0
    run_at_startup: bool = False

    @property
    def warning(self) -> str | None:
        """What people may not expect of its times."""
        times = self.times
        return times.warning if isinstance(times, Cron) else None

    @property
    def times(self) -> Times:
        """When it is due.

        Raises:
            InvalidSchedule: the expression or the zone cannot be read.
        """
        zone(self.tz)
        return Every(self.every) if self.every is not None else Cron(self.cron or "", self.tz)


def make_record(fields: Mapping[str, Any]) -> ScheduleRecord:
    """A schedule from the fields that people give.

    Raises:
        InvalidSchedule: a field is wrong, or it says not exactly one of `cron` and `every`.
    """
    unknown = sorted(fields.keys() - set(ScheduleRecord.__struct_fields__))[:MOST_PROBLEMS]
    if unknown:
        wrong = [ArgumentProblem((shortened(name, 100),), "must be a field of a schedule") for name in unknown]
        raise InvalidSchedule(wrong)
    try:
        record = msgspec.convert(dict(fields), ScheduleRecord, strict=True)
    except msgspec.ValidationError as error:
        raise InvalidSchedule([ArgumentProblem((), str(error))]) from error
    if (record.cron is None) == (record.every is None):
        raise InvalidSchedule([ArgumentProblem(("cron",), "must be given, or every, and not both")])
    if not _NAME.fullmatch(record.name) or record.name in DOTS:
        shown = shortened(record.name, 100)
        raise InvalidSchedule([ArgumentProblem(("name",), f"must be 1 to 100 letters, digits, _ . -, not {shown!r}")])
    if len(record.job) > LONGEST_JOB_NAME:
        too_long = f"must have at most {LONGEST_JOB_NAME} characters, not {len(record.job)}"
        raise InvalidSchedule([ArgumentProblem(("job",), too_long)])
    if not 0 <= record.jitter <= LONGEST_JITTER:
        raise InvalidSchedule([ArgumentProblem(("jitter",), f"must be from 0 s to a day, not {record.jitter}")])
    if record.run_at_startup and not record.declared:
        raise InvalidSchedule([ArgumentProblem(("run_at_startup",), "must be left to schedules declared in code")])
    _ = record.times
    _check_size(record)
    return record


def _check_size(record: ScheduleRecord) -> None:
    try:
        size = len(wire.dumps(record))
    except NotSerializable as error:
        raise InvalidSchedule([ArgumentProblem(("args",), str(error))]) from error
    if size > LARGEST_RECORD:
        raise InvalidSchedule([ArgumentProblem((), f"must take at most {LARGEST_RECORD:,} bytes, not {size:,}")])


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as one look-up saw it. `next_run` is None while it is paused."""

    record: ScheduleRecord
    next_run: datetime | None
    last_run: datetime | None
    last_job: str | None
    paused: bool


@dataclass(frozen=True, slots=True)
class Firing:
    """A time that is due, the one that follows it, and the time of the run that it brings (None: no run)."""

    due: datetime
    following: datetime
    run: datetime | None


def firings(times: Times, missed: Missed, due: datetime, now: datetime) -> list[Firing]:
    """What to do about a time that is due, and those after it that have passed as well.

    Times that are at most a minute old all run. Older ones were missed, and `missed` says what becomes of them. At most
    500 runs come at once; the rest follows with the next poll.
    """
    found = []
    recent = now - MISSED_AFTER
    if due < recent and missed is not Missed.ALL:
        following = next(times.after(recent - timedelta(milliseconds=1)))
        found.append(Firing(due, following, due if missed is Missed.ONCE else None))
        due = following
    passed = [] if due > now else [due, *islice(takewhile(lambda each: each <= now, times.after(due)), MOST_AT_ONCE)]
    followed = [*passed[1:], *([next(times.after(passed[-1]))] if passed else [])]
    return found + [Firing(each, after, each) for each, after in zip(passed, followed, strict=True)]


def jittered(name: str, at: datetime, jitter: float) -> datetime:
    """A time moved by up to `jitter` seconds; the same for the same schedule and time, whoever asks."""
    if not jitter:
        return at
    # A digest in place of a random number: every worker must compute the same time, as only one of them fires it.
    digest = hashlib.sha256(f"{name} {at.timestamp()}".encode()).digest()
    return at + timedelta(seconds=jitter * int.from_bytes(digest[:8]) / 2**64)
