"""Hands jobs of the outbox to Redis. Any number may run; each row is handed over by one of them at a time."""

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

import structlog
from asyncpg import InterfaceError, PostgresError
from sqlalchemy import ColumnElement, Row, delete, func, literal_column, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from worker.broker.batcher import MOST_BYTES, Outcome, send_apart
from worker.broker.queue_store import Broker, NewJob, Placed
from worker.core.errors import CallRefused
from worker.core.periodic import OUTAGES, Duty, keep_doing_all
from worker.database.notices import CHANNEL
from worker.database.outbox import outbox_table

logger = structlog.stdlib.get_logger("embarq.relay")

BATCH = 500
HANDED_OVER_WITHIN = 20.0  # seconds that rows stay locked at most
LONGEST_SLEEP = 1.0
EAR_TRIED_EVERY = 10.0
EAR_ANSWERS_WITHIN = 5.0
PATROL_EVERY = 5.0
PATROL_BATCH = 1000
NEVER: ColumnElement[Any] = literal_column("'infinity'::timestamptz")  # `sent_at` of what no relay tries again


class Relay:
    """Woken by a commit (`NOTIFY`), and once a second all the same.

    What it hands over has the nonce that was written with it: a row that is handed over twice, because a relay was
    killed between Redis and its own commit, is one job.
    """

    def __init__(self, engine: AsyncEngine, broker: Broker) -> None:
        self._engine = engine
        self._broker = broker
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Relay until cancelled. Nothing that goes wrong ends it."""
        outages = (*OUTAGES, SQLAlchemyError, PostgresError, InterfaceError)
        await keep_doing_all(
            Duty("relay, ear", 0.0, self._listen, outages),
            Duty("relay, patrol", PATROL_EVERY, self._patrol_all, outages),
            Duty("relay", 0.0, self._relay_all, outages),
        )

    async def _listen(self) -> None:
        """Hear of commits for as long as the connection lasts. Who only listens does not notice that nobody is there,
        so it asks now and then."""
        async with self._engine.connect() as connection:
            raw = await connection.get_raw_connection()
            driver: Any = raw.driver_connection
            ended = asyncio.Event()
            driver.add_termination_listener(lambda *_: ended.set())
            await driver.add_listener(CHANNEL, lambda *_: self._news.set())
            try:
                while not await _is_set_within(ended, EAR_TRIED_EVERY):
                    await driver.fetchval("SELECT 1", timeout=EAR_ANSWERS_WITHIN)
            finally:
                with contextlib.suppress(Exception):
                    await connection.invalidate()

    async def _relay_all(self) -> None:
        self._news.clear()
        while await self.relay_once():
            pass
        await _is_set_within(self._news, LONGEST_SLEEP)

    async def relay_once(self) -> int:
        """Hand over the oldest rows that no other relay has in hand, some megabytes at most; how many are done with.

        A row that Redis refuses is told apart from the others, and kept without being tried again.

        Raises:
            BrokerUnavailable, TimeoutError: Redis did not answer; the rows stay.
        """
        table = outbox_table
        size = func.octet_length(table.c.payload)
        oldest = select(table.c.id, size).where(table.c.sent_at.is_(None)).order_by(table.c.written_at).limit(BATCH)
        async with self._engine.begin() as connection:
            found = (await connection.execute(oldest.with_for_update(skip_locked=True))).all()
            ids = [row.id for row in found[: _fitting(size for _, size in found)]]
            if not ids:
                return 0
            whole = select(table).where(table.c.id.in_(ids)).order_by(table.c.written_at)
            rows = (await connection.execute(whole)).all()
            async with asyncio.timeout(HANDED_OVER_WITHIN):
                outcomes = await send_apart(self._broker.enqueue, [_job(row) for row in rows])
            return await _settle(connection, rows, outcomes)

    async def _patrol_all(self) -> None:
        """Look after durable jobs that were handed over, oldest look first."""
        while await self.patrol_once() == PATROL_BATCH:
            pass

    async def patrol_once(self) -> int:
        """Forget durable jobs that have ended, have those handed over anew that Redis has lost; how many were looked
        at."""
        table = outbox_table
        due = table.c.sent_at < func.now() - func.make_interval(0, 0, 0, 0, 0, 0, PATROL_EVERY)
        oldest = select(table.c.id).where(due).order_by(table.c.sent_at).limit(PATROL_BATCH)
        async with self._engine.begin() as connection:
            ids = (await connection.execute(oldest.with_for_update(skip_locked=True))).scalars().all()
            if not ids:
                return 0
            ended, lost = await self._broker.whereabouts(ids)
            await connection.execute(delete(table).where(table.c.id.in_(ended)))
            alive = [job_id for job_id in ids if job_id not in ended and job_id not in lost]
            await connection.execute(update(table).where(table.c.id.in_(alive)).values(sent_at=func.now()))
            await connection.execute(update(table).where(table.c.id.in_(lost)).values(sent_at=None))
        if lost:
            logger.warning("durable jobs are queued again: redis has lost them", jobs=len(lost))
            self._news.set()
        await self._broker.forget_ended(list(ended))  # only now: the rows are gone
        return len(ids)


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


def _job(row: Row[Any]) -> NewJob:
    return NewJob(row.id, row.queue, row.nonce, row.payload, row.delay_ms, row.due_ms, row.unique)


def _fitting(sizes: Iterable[int]) -> int:
    """How many of the first payloads go together: one, or as many as stay within the bytes of one call."""
    return sum(1 for count, total in enumerate(accumulate(sizes)) if total <= MOST_BYTES or count == 0)


async def _settle(connection: AsyncConnection, rows: Sequence[Row[Any]], outcomes: Sequence[Outcome]) -> int:
    """Note what became of rows; how many are done with.

    What was handed over is, but for durable jobs, which are looked after until they have ended. What Redis refused
    stays on record, where somebody may look at it. What failed otherwise is tried again, after all others.
    """
    table = outbox_table
    outcome_of = {row.id: outcome for row, outcome in zip(rows, outcomes, strict=True)}
    placed = [row for row in rows if isinstance(outcome_of[row.id], Placed)]
    refused = {job_id: error for job_id, error in outcome_of.items() if isinstance(error, CallRefused)}
    failed = {i: error for i, error in outcome_of.items() if isinstance(error, Exception) and i not in refused}
    durable = [row.id for row in placed if row.durable]
    done = [row.id for row in placed if not row.durable]
    for job_id, refusal in refused.items():
        logger.error("a job of the outbox is refused, and not tried again", job_id=job_id, reason=str(refusal))
    for job_id, failure in failed.items():
        logger.error("a job of the outbox cannot be queued now", job_id=job_id, reason=str(failure))
    if done:
        await connection.execute(delete(table).where(table.c.id.in_(done)))
    for ids, changed in (
        (durable, {"sent_at": func.now()}),
        (list(refused), {"sent_at": NEVER}),
        (list(failed), {"written_at": func.now()}),
    ):
        if ids:
            await connection.execute(update(table).where(table.c.id.in_(ids)).values(changed))
    return len(placed) + len(refused)
