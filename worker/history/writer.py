"""Takes the records of ended jobs from their stream into the database, in batches; any number of writers may run."""

import contextlib
import re
from collections.abc import Sequence
from datetime import timedelta
from importlib import resources
from typing import Any

import msgspec
import structlog
from asyncpg import PostgresError
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.broker import keys
from worker.broker.pool import Pool, blocking_connection
from worker.loops import OUTAGES, Duty, keep_doing_all

logger = structlog.stdlib.get_logger("embarq.history")

GROUP = "history"
ENTRIES = 100
BLOCK_MS = 2000
ADOPT_AFTER_MS = 30_000
PRUNE_EVERY = 600.0
PRUNED_AT_ONCE = 5000
RECORDED_FOR = 86400  # seconds after the last sign of a writer: a database that was given up fills no Redis

INSERT = (resources.files("worker.history") / "writing.sql").read_text()
PRUNE_JOBS = text("""
WITH old AS (SELECT id, enqueued_at FROM embarq_jobs WHERE finished_at < now() - CAST(:age AS interval) LIMIT :most),
     gone AS (DELETE FROM embarq_tries t USING old WHERE t.job_id = old.id AND t.enqueued_at = old.enqueued_at)
DELETE FROM embarq_jobs j USING old WHERE j.id = old.id AND j.enqueued_at = old.enqueued_at
""")


class HistoryWriter:
    """One of the consumers of the stream. An entry is acknowledged, and removed, after its rows are committed; entries
    of a writer that is gone are adopted by another. What is written twice changes nothing: rows have their keys.

    While the database is away it waits, and the stream keeps.
    """

    def __init__(self, engine: AsyncEngine, pool: Pool, name: str, days: float) -> None:
        """`days`: how long rows are kept."""
        self._engine = engine
        self._pool = pool
        self._name = name
        self._keep = timedelta(days=days)

    async def run(self) -> None:
        """Write until cancelled. Nothing that goes wrong ends it."""
        outages = (*OUTAGES, RedisError, SQLAlchemyError, PostgresError)
        async with blocking_connection(self._pool) as redis:
            await keep_doing_all(
                Duty("history", 0.0, lambda: self.write_once(redis), outages),
                Duty("history, pruning", PRUNE_EVERY, self._prune_all, outages),
            )

    async def write_once(self, redis: Redis) -> None:
        """Write what is there: first what this writer has in hand or adopts, then what is new, as it comes."""
        await redis.set(keys.RECORDING, "1", ex=RECORDED_FOR)
        try:
            entries = await self._entries(redis)
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            with contextlib.suppress(ResponseError):  # another writer was faster
                await redis.xgroup_create(keys.RECORDS, GROUP, id="0", mkstream=True)
            return
        if entries:
            await self._write([fields[b"e"].decode() for _, fields in entries])
            ids = [entry_id for entry_id, _ in entries]
            pipe = redis.pipeline(transaction=False)
            pipe.xack(keys.RECORDS, GROUP, *ids)
            pipe.xdel(keys.RECORDS, *ids)
            await pipe.execute()

    async def _entries(self, redis: Redis) -> list[tuple[bytes, Any]]:
        mine = await redis.xreadgroup(GROUP, self._name, {keys.RECORDS: "0"}, count=ENTRIES)
        if mine and mine[0][1]:
            return list(mine[0][1])
        adopted = await redis.xautoclaim(keys.RECORDS, GROUP, self._name, ADOPT_AFTER_MS, count=ENTRIES)
        if adopted[1]:
            return list(adopted[1])
        fresh = await redis.xreadgroup(GROUP, self._name, {keys.RECORDS: ">"}, count=ENTRIES, block=BLOCK_MS)
        return list(fresh[0][1]) if fresh else []

    async def _write(self, lists: Sequence[str]) -> None:
        """All at once; where the database will not have one of the records, one by one, without those.

        The rows are made by the database: a worker's process has better to do.
        """
        records = [_NUL.sub(r"\1", each) if "\\u0000" in each else each for each in lists]
        try:
            await self._insert("[" + ",".join(each[1:-1] for each in records) + "]")
        except PostgresError as error:
            if not _is_about_data(error):
                raise
            for record in [record for each in records for record in _ENTRY.decode(each)]:
                await self._write_one(bytes(record).decode())

    async def _write_one(self, record: str) -> None:
        try:
            await self._insert(f"[{record}]")
        except PostgresError as error:
            if not _is_about_data(error):
                raise
            logger.exception("a record of the history is left out", record=record[:500])

    async def _insert(self, records: str) -> None:
        async with self._engine.connect() as connection:
            raw = await connection.get_raw_connection()
            driver: Any = raw.driver_connection
            await driver.execute(INSERT, records)

    async def _prune_all(self) -> None:
        while await self.prune_once() == PRUNED_AT_ONCE:
            pass

    async def prune_once(self) -> int:
        """Remove rows that are too old, at most 5,000 jobs; how many."""
        async with self._engine.begin() as connection:
            done = await connection.execute(PRUNE_JOBS, {"age": self._keep, "most": PRUNED_AT_ONCE})
            return int(done.rowcount)


_ENTRY = msgspec.json.Decoder(list[msgspec.Raw])
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")  # which JSON may have, and Postgres may not


def _is_about_data(error: PostgresError) -> bool:
    """Whether the database refuses a value (SQLSTATE classes 22 and 23), so that trying again would not help."""
    return str(error.sqlstate).startswith(("22", "23"))
