"""Schedules in Redis: their records, their next times, and the script that fires each time once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from redis.asyncio import Redis

from worker.broker import scripts
from worker.broker.availability import nothing_of_another_type, unavailable_when_away
from worker.broker.inspect import Inspector
from worker.broker.queue_store import NewJob
from worker.core import keys, wire
from worker.core.job import from_ms, to_ms
from worker.core.schedule import Schedule, ScheduleRecord

MOST_DUE = 500  # schedules that one poll fires; the rest stay due
_RECORD = msgspec.json.Decoder(ScheduleRecord)


@dataclass(frozen=True, slots=True)
class Fired:
    """A due time of a schedule, and the job that it brings, if any. `alone`: not while its last job lives.

    `due` None is the start of a worker: workers that start within a minute fire once, and no time changes.
    """

    name: str
    due: datetime | None
    following: datetime | None
    alone: bool
    job: NewJob | None


@dataclass(frozen=True, slots=True)
class Timetable:
    """Schedules at one moment of Redis' clock, and when the next one of all is due."""

    now: datetime
    next_due: datetime | None
    schedules: tuple[Schedule, ...]


class ScheduleStore:
    """Every method raises `BrokerUnavailable` when Redis cannot serve it."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def declare(self, schedules: Sequence[tuple[ScheduleRecord, datetime]]) -> None:
        """Store schedules with their next times; those that are unchanged keep theirs."""
        await self._change("declare", [(record.name, wire.dumps(record), to_ms(at)) for record, at in schedules])

    async def create(self, record: ScheduleRecord, next_run: datetime) -> bool:
        """Store a new schedule; False when another has its name."""
        return await self._change("create", [(record.name, wire.dumps(record), to_ms(next_run))])

    async def pause(self, name: str) -> bool:
        """Stop firing it; False when it was paused already, or there is none."""
        return await self._change("pause", [(name, "", "")])

    async def resume(self, name: str, next_run: datetime) -> bool:
        """Fire it again; False when it was not paused, or there is none."""
        return await self._change("resume", [(name, "", to_ms(next_run))])

    async def drop(self, name: str) -> bool:
        """Forget it; False when there is none."""
        return await self._change("drop", [(name, "", "")])

    async def count(self) -> int:
        """How many there are."""
        with unavailable_when_away(), nothing_of_another_type():
            return int(await self._redis.hlen(keys.SCHEDULES))  # type: ignore[misc]  # redis-py's stub says int or awaitable
        return 0

    async def now(self) -> datetime:
        """The time by Redis' clock."""
        with unavailable_when_away():
            seconds, microseconds = await self._redis.time()
        return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=microseconds)

    async def due(self) -> Timetable:
        """Those whose time has come."""
        return await self._read("due", MOST_DUE)

    async def all(self) -> Timetable:
        """All of them, by name."""
        return await self._read("all", "")

    async def one(self, name: str) -> Schedule | None:
        """The one of this name, if there is one."""
        found = await self._read("one", name)
        return found.schedules[0] if found.schedules else None

    async def no_queue(self, queue_key: str) -> str | None:
        """What is wrong with a key that is to hold jobs, where it holds somebody else's data."""
        return (await Inspector(self._redis).no_queues([queue_key])).get(queue_key)

    async def fire(self, fired: Sequence[Fired]) -> list[bool | str]:
        """Fire times, each once; per time, whether it was this call that did, or what is wrong with it."""
        arguments: list[scripts.Argument] = []
        for each in fired:
            times = ("" if at is None else to_ms(at) for at in (each.due, each.following))
            arguments += (each.name, *times, int(each.alone))
            job = each.job
            arguments += ("", "", 0, "") if job is None else (job.id, job.queue_key, job.due_ms or 0, job.payload)
        with unavailable_when_away():
            answers = await scripts.run(self._redis, scripts.FIRE, (), arguments)
        return [bool(answer) if isinstance(answer, int) else answer.decode(errors="replace") for answer in answers]

    async def _change(self, action: str, schedules: Sequence[tuple[scripts.Argument, ...]]) -> bool:
        arguments: list[scripts.Argument] = [action]
        for schedule in schedules:
            arguments += schedule
        with unavailable_when_away():
            answers = await scripts.run(self._redis, scripts.SCHEDULE, (), arguments)
        return any(answers)

    async def _read(self, which: str, what: scripts.Argument) -> Timetable:
        with unavailable_when_away():
            now, next_due, *flat = await scripts.run(self._redis, scripts.SCHEDULES, (), (which, what))
        found = [
            _schedule(*flat[start : start + 5])
            for start in range(0, len(flat), 5)
            if _is_readable(*flat[start : start + 2])
        ]
        found.sort(key=lambda schedule: schedule.record.name)
        return Timetable(from_ms(int(now)), _time(next_due), tuple(found))


def _is_readable(name: bytes, record: bytes) -> bool:
    """Whether a schedule is what we wrote: a damaged one must not keep others from firing."""
    try:
        return _RECORD.decode(record).name.encode() == name
    except (UnicodeDecodeError, msgspec.DecodeError):
        return False


def _schedule(_name: bytes, record: bytes, due: bytes, last: bytes, paused: Any) -> Schedule:
    at, _, job_id = last.decode(errors="replace").partition(" ")
    return Schedule(
        record=_RECORD.decode(record),
        next_run=_time(due),
        last_run=from_ms(int(at)) if at.isdecimal() else None,
        last_job=job_id or None,
        paused=bool(paused),
    )


def _time(ms: bytes) -> datetime | None:
    return None if int(ms) < 0 else from_ms(int(ms))
