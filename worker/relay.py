"""Hands jobs of the outbox to Redis. Any number may run; each row is handed over by one of them at a time."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import structlog
from asyncpg import InterfaceError, PostgresError
from sqlalchemy import Row, delete, func, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from worker.broker.broker import Broker, NewJob
from worker.loops import OUTAGES, Duty, keep_doing_all
from worker.notices import CHANNEL
from worker.outbox import outbox_table

logger = structlog.stdlib.get_logger("embarq.relay")

BATCH = 500
LONGEST_SLEEP = 1.0
EAR_TRIED_EVERY = 10.0
EAR_ANSWERS_WITHIN = 5.0
PATROL_EVERY = 5.0
PATROL_BATCH = 1000


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
        while await self.relay_once() == BATCH:
            pass
        await _is_set_within(self._news, LONGEST_SLEEP)

    async def relay_once(self) -> int:
        """Hand over the oldest rows that no other relay has in hand; how many.

        Raises:
            BrokerUnavailable: Redis did not answer; the rows stay.
        """
        table = outbox_table
        oldest = select(table).where(table.c.sent_at.is_(None)).order_by(table.c.written_at).limit(BATCH)
        async with self._engine.begin() as connection:
            rows = (await connection.execute(oldest.with_for_update(skip_locked=True))).all()
            if rows:
                await self._broker.enqueue([_job(row) for row in rows])
                await _settle(connection, rows)
        return len(rows)

    async def _patrol_all(self) -> None:
        """Look after durable jobs that were handed over, oldest look first."""
        while await self.patrol_once() == PATROL_BATCH:
            pass

    async def patrol_once(self) -> int:
        """Forget durable jobs that have ended, hand over anew those that Redis has lost; how many were looked at."""
        table = outbox_table
        due = table.c.sent_at < func.now() - func.make_interval(0, 0, 0, 0, 0, 0, PATROL_EVERY)
        oldest = select(table).where(due).order_by(table.c.sent_at).limit(PATROL_BATCH)
        async with self._engine.begin() as connection:
            rows = (await connection.execute(oldest.with_for_update(skip_locked=True))).all()
            if not rows:
                return 0
            ended, lost = await self._broker.whereabouts([row.id for row in rows])
            if lost:
                logger.warning("durable jobs are queued again: redis has lost them", jobs=len(lost))
                await self._broker.enqueue([_job(row) for row in rows if row.id in lost])
            await connection.execute(delete(table).where(table.c.id.in_(ended)))
            alive = [row.id for row in rows if row.id not in ended]
            await connection.execute(update(table).where(table.c.id.in_(alive)).values(sent_at=func.now()))
        await self._broker.forget_ended(list(ended))  # only now: the rows are gone
        return len(rows)


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


def _job(row: Row[Any]) -> NewJob:
    return NewJob(row.id, row.queue, row.nonce, row.payload, row.delay_ms, row.due_ms, row.unique)


async def _settle(connection: AsyncConnection, rows: Sequence[Row[Any]]) -> None:
    """What was handed over is done with, but for durable jobs, which are looked after until they have ended."""
    table = outbox_table
    durable = [row.id for row in rows if row.durable]
    done = [row.id for row in rows if not row.durable]
    if done:
        await connection.execute(delete(table).where(table.c.id.in_(done)))
    if durable:
        await connection.execute(update(table).where(table.c.id.in_(durable)).values(sent_at=func.now()))
