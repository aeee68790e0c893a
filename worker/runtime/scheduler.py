"""Fires what is due. Any number may run; Redis lets each time fire once."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog

from worker.broker.encoding import new_id, pack
from worker.broker.queue_store import NewJob
from worker.broker.schedule_store import Fired, ScheduleStore
from worker.core.calls import Call
from worker.core.context import Stopping
from worker.core.errors import (
    ArgumentProblem,
    BrokerUnavailable,
    EmbarqError,
    InvalidOptions,
    ScheduleExists,
    ScheduleNotFound,
)
from worker.core.handle import JobHandle
from worker.core.job import to_ms
from worker.core.options import check_options
from worker.core.periodic import PeriodicTask, keep_running
from worker.core.queue_client import Producer
from worker.core.schedule import Overlap, Schedule, ScheduleRecord, firings, jittered
from worker.definition.registry import Registry

logger = structlog.stdlib.get_logger("embarq.scheduler")

LONGEST_SLEEP = 1.0
ORPHAN_AFTER = 86400.0
# Its job is not known here, or takes other arguments by now; or somebody wrote times that are none.
UNFIT = (EmbarqError, OverflowError)


class Scheduler:
    """Declares the schedules of a registry, and fires those and the ones that were made at run time."""

    def __init__(self, schedules: ScheduleStore, registry: Registry, *, starts: bool = True) -> None:
        """`starts`: whether its beginning is the start of a worker, at which schedules run that ask for it."""
        self._schedules = schedules
        self._registry = registry
        self._declared: dict[str, ScheduleRecord] = {record.name: record for record in registry.schedules}
        self._has_begun = False
        self._starts = starts
        self._told: set[str] = set()

    async def run(self) -> None:
        """Fire until cancelled. Nothing that goes wrong ends it."""
        await keep_running(PeriodicTask("scheduler", 0.0, self._fire_and_wait))

    async def begin(self) -> None:
        """Make the registry's schedules known, say what is odd about them, and fire those that run at a start."""
        await self.declare()
        if self._starts:
            await self._fire_at_start()
        for name, reason in self._registry.warnings().items():
            logger.warning("schedule may run more often than meant", schedule=name, reason=reason)
        self._has_begun = True

    async def declare(self) -> None:
        """Make the registry's schedules known; those that are known already keep their next time."""
        now = await self._schedules.now()
        records = [(record, next(record.times.after(now))) for record in self._declared.values()]
        if records:
            await self._schedules.declare(records)

    async def _fire_and_wait(self) -> None:
        if not self._has_begun:
            await self.begin()
        await asyncio.sleep(await self.run_once())

    async def run_once(self) -> float:
        """Fire what is due; seconds until something is due again, a second at most."""
        table = await self._schedules.due()
        fired = [each for schedule in table.schedules for each in self._fired(schedule, table.now)]
        if fired and (count := await self._fire(fired)):
            logger.info("schedules fired", runs=count)
        await self._forget_orphans(table.schedules, table.now)
        if table.next_due is None:
            return LONGEST_SLEEP
        return min(LONGEST_SLEEP, max(0.0, (table.next_due - table.now).total_seconds()))

    async def _fire_at_start(self) -> None:
        now = await self._schedules.now()
        fired = [
            each for record in self._declared.values() if record.run_at_startup for each in self._at_start(record, now)
        ]
        if fired and await self._fire(fired):
            logger.info("schedules fired at the start")

    async def _fire(self, fired: Sequence[Fired]) -> int:
        """How many runs came of it. One that cannot be queued holds up no other."""
        count = 0
        for each, done in zip(fired, await self._schedules.fire(fired), strict=True):
            if isinstance(done, str):
                self._tell_once(each.name, done)
            else:
                count += done and each.job is not None
        return count

    def _tell_once(self, schedule: str, reason: str) -> None:
        if schedule not in self._told:
            logger.warning("schedule cannot fire here", schedule=schedule, reason=reason)
        self._told.add(schedule)

    def _at_start(self, record: ScheduleRecord, now: datetime) -> Iterable[Fired]:
        try:
            job = self._job(record, now, f"schedule~{record.name}~start~{to_ms(now)}")
        except UNFIT as error:
            self._tell_once(record.name, str(error))
        else:
            yield Fired(record.name, None, None, record.overlap is Overlap.SKIP, job)

    def _fired(self, schedule: Schedule, now: datetime) -> Iterable[Fired]:
        """What is due of a schedule. One that is declared elsewhere, or differently, is left to those who know it."""
        record, due = schedule.record, schedule.next_run
        if due is None or (record.declared and self._declared.get(record.name) != record):
            return
        try:
            for each in firings(record.times, record.missed, due, now):
                job = None if each.run is None else self._job(record, each.run)
                yield Fired(record.name, each.due, each.following, record.overlap is Overlap.SKIP, job)
        except UNFIT as error:
            self._tell_once(record.name, str(error))

    async def list(self) -> Sequence[Schedule]:
        """All schedules, by name."""
        return (await self._schedules.all()).schedules

    async def find(self, name: str) -> Schedule:
        """One schedule.

        Raises:
            ScheduleNotFound: none has this name.
        """
        found = await self._schedules.one(name)
        if found is None:
            raise ScheduleNotFound(name)
        return found

    async def create(self, record: ScheduleRecord) -> Schedule:
        """Make a schedule at run time; whoever runs a scheduler fires it. The same again changes nothing.

        Raises:
            UnknownJob, InvalidArguments, InvalidOptions: its runs could not be queued.
            ScheduleExists: another schedule has its name.
        """
        job = self._job(record, datetime.now(UTC))
        if told := await self._schedules.no_queue(job.queue_key):
            raise InvalidOptions(record.job, [ArgumentProblem(("queue",), told)])
        if not await self._schedules.create(record, await self._next(record)):
            raise ScheduleExists(record.name)
        return await self.find(record.name)

    async def drop(self, name: str) -> None:
        """Forget a schedule that was made at run time; one that is declared in code comes back with its worker.

        Raises:
            ScheduleNotFound: none has this name.
        """
        if not await self._schedules.drop(name):
            raise ScheduleNotFound(name)

    async def pause(self, name: str) -> Schedule:
        """Fire it no more until it is resumed; times that pass meanwhile are not made up for.

        Raises:
            ScheduleNotFound: none has this name.
        """
        await self._schedules.pause(name)
        return await self.find(name)

    async def resume(self, name: str) -> Schedule:
        """Fire it again, from its next time on.

        Raises:
            ScheduleNotFound: none has this name.
        """
        schedule = await self.find(name)
        await self._schedules.resume(name, await self._next(schedule.record))
        return await self.find(name)

    async def run_now(self, name: str, producer: Producer) -> JobHandle[Any]:
        """Queue a run beside its times, also while it is paused.

        Raises:
            ScheduleNotFound: none has this name.
            UnknownJob: its job is not known here.
        """
        record = (await self.find(name)).record
        return await producer.enqueue(self._call(record, f"schedule~{name}~now~{new_id()}"))

    async def _next(self, record: ScheduleRecord) -> datetime:
        """Its first time after now, by Redis' clock."""
        return next(record.times.after(await self._schedules.now()))

    def _call(self, record: ScheduleRecord, job_id: str) -> Call[Any]:
        options = check_options(record.job, {**record.options, "id": job_id})
        return self._registry.get(record.job).call_with(record.args, options)

    def _job(self, record: ScheduleRecord, at: datetime, job_id: str | None = None) -> NewJob:
        call = self._call(record, job_id or f"schedule~{record.name}~{to_ms(at)}")
        packed = pack(call, self._registry.max_arguments)
        return dataclasses.replace(packed, due_ms=to_ms(jittered(record.name, at, record.jitter)))

    async def _forget_orphans(self, schedules: Iterable[Schedule], now: datetime) -> None:
        """A declared schedule that nobody has fired for a day is no longer in anybody's code."""
        for schedule in schedules:
            late = 0.0 if schedule.next_run is None else (now - schedule.next_run).total_seconds()
            if schedule.record.declared and schedule.record.name not in self._declared and late > ORPHAN_AFTER:
                with contextlib.suppress(BrokerUnavailable):
                    await self._schedules.drop(schedule.record.name)


class SchedulerService:
    """A scheduler in a worker: it fires until that is told to stop."""

    def __init__(self, schedules: ScheduleStore, registry: Registry, stopping: Stopping, *, starts: bool) -> None:
        self._scheduler = Scheduler(schedules, registry, starts=starts)
        self._stopping = stopping

    async def run(self) -> None:
        """Fire until cancelled, or told to stop."""
        async with asyncio.TaskGroup() as group:
            firing = group.create_task(self._scheduler.run(), name="scheduler")
            await self._stopping.wait()
            firing.cancel()
