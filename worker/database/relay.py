"""Passes jobs of the outbox to Redis. Any number may run; each row is sent by one of them at a time."""

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
from worker.broker.queue_store import EnqueueResult, NewJob, QueueStore
from worker.core.errors import CallRefused
from worker.core.periodic import OUTAGES, PeriodicTask, keep_all_running
from worker.database.notices import CHANNEL
from worker.database.outbox import outbox_table

logger = structlog.stdlib.get_logger("embarq.relay")

BATCH = 500
HANDED_OVER_WITHIN = 20.0  # seconds for which rows stay locked at most
LONGEST_SLEEP = 1.0
LISTENER_TRIED_EVERY = 10.0
LISTENER_ANSWERS_WITHIN = 5.0
RECONCILE_EVERY = 5.0
RECONCILE_BATCH = 1000
NEVER: ColumnElement[Any] = literal_column("'infinity'::timestamptz")  # `sent_at` of rows that no relay retries


class Relay:
    """Woken by a commit (`NOTIFY`), and by a poll once a second.

    A row is sent with the request id that was written with it: one that is sent twice, because a relay was killed
    between Redis' answer and its own commit, is one job.
    """

    def __init__(self, engine: AsyncEngine, queue_store: QueueStore) -> None:
        self._engine = engine
        self._queue_store = queue_store
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Relay until cancelled. No error ends it."""
        outages = (*OUTAGES, SQLAlchemyError, PostgresError, InterfaceError)
        await keep_all_running(
            PeriodicTask("relay listener", 0.0, self._listen, outages),
            PeriodicTask("relay reconciler", RECONCILE_EVERY, self._reconcile_all, outages),
            PeriodicTask("relay", 0.0, self._relay_all, outages),
        )

    async def _listen(self) -> None:
        """Listen for commits for as long as the connection lasts. A connection that only listens does not notice a dead
        peer, so it sends a query now and then."""
        async with self._engine.connect() as connection:
            raw = await connection.get_raw_connection()
            driver: Any = raw.driver_connection
            ended = asyncio.Event()
            driver.add_termination_listener(lambda *_: ended.set())
            await driver.add_listener(CHANNEL, lambda *_: self._news.set())
            try:
                while not await _is_set_within(ended, LISTENER_TRIED_EVERY):
                    await driver.fetchval("SELECT 1", timeout=LISTENER_ANSWERS_WITHIN)
            finally:
                with contextlib.suppress(Exception):
                    await connection.invalidate()

    async def _relay_all(self) -> None:
        self._news.clear()
        while await self.relay_once():
            pass
        await _is_set_within(self._news, LONGEST_SLEEP)

    async def relay_once(self) -> int:
        """Send the oldest rows that no other relay has locked, some megabytes at most; how many are done with.

        A row that Redis refuses is separated from the others, and kept without being retried.

        Raises:
            BrokerUnavailable, TimeoutError: Redis did not answer; the rows stay.
        """
        table = outbox_table
        size = func.octet_length(table.c.payload)
        oldest = select(table.c.id, size).where(table.c.sent_at.is_(None)).order_by(table.c.written_at).limit(BATCH)
        async with self._engine.begin() as connection:
            # SKIP LOCKED lets relays work side by side: each takes other rows, and a dead one's are free at once.
            found = (await connection.execute(oldest.with_for_update(skip_locked=True))).all()
            ids = [row.id for row in found[: _fitting(size for _, size in found)]]
            if not ids:
                return 0
            whole = select(table).where(table.c.id.in_(ids)).order_by(table.c.written_at)
            rows = (await connection.execute(whole)).all()
            async with asyncio.timeout(HANDED_OVER_WITHIN):
                outcomes = await send_apart(self._queue_store.enqueue, [_job(row) for row in rows])
            return await _settle(connection, rows, outcomes)

    async def _reconcile_all(self) -> None:
        """Reconcile durable jobs that were sent, those first that were checked longest ago."""
        while await self.reconcile_once() == RECONCILE_BATCH:
            pass

    async def reconcile_once(self) -> int:
        """Delete the rows of durable jobs that have ended, mark those that Redis has lost to be sent again; how many
        were checked."""
        table = outbox_table
        due = table.c.sent_at < func.now() - func.make_interval(0, 0, 0, 0, 0, 0, RECONCILE_EVERY)
        oldest = select(table.c.id).where(due).order_by(table.c.sent_at).limit(RECONCILE_BATCH)
        async with self._engine.begin() as connection:
            ids = (await connection.execute(oldest.with_for_update(skip_locked=True))).scalars().all()
            if not ids:
                return 0
            ended, lost = await self._queue_store.whereabouts(ids)
            await connection.execute(delete(table).where(table.c.id.in_(ended)))
            alive = [job_id for job_id in ids if job_id not in ended and job_id not in lost]
            await connection.execute(update(table).where(table.c.id.in_(alive)).values(sent_at=func.now()))
            await connection.execute(update(table).where(table.c.id.in_(lost)).values(sent_at=None))
        if lost:
            logger.warning("durable jobs lost by redis are queued again", jobs=len(lost))
            self._news.set()
        await self._queue_store.forget_ended(list(ended))  # only after the commit that deleted their rows
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
    """Record what became of rows; how many are done with.

    Those that were sent are, except durable jobs, which are kept until they have ended. Those that Redis refused stay
    on record, for somebody to look at. Those that failed otherwise are retried, after all others.
    """
    table = outbox_table
    outcome_of = {row.id: outcome for row, outcome in zip(rows, outcomes, strict=True)}
    placed = [row for row in rows if isinstance(outcome_of[row.id], EnqueueResult)]
    refused = {job_id: error for job_id, error in outcome_of.items() if isinstance(error, CallRefused)}
    failed = {i: error for i, error in outcome_of.items() if isinstance(error, Exception) and i not in refused}
    durable = [row.id for row in placed if row.durable]
    done = [row.id for row in placed if not row.durable]
    for job_id, refusal in refused.items():
        logger.error("job of the outbox was refused and is not retried", job_id=job_id, reason=str(refusal))
    for job_id, failure in failed.items():
        logger.error("job of the outbox cannot be queued now", job_id=job_id, reason=str(failure))
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
