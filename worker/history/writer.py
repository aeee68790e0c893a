"""Moves the records of ended jobs from their stream into the database, in batches; any number of writers may run."""

import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from importlib import resources
from typing import Any

import msgspec
import structlog
from asyncpg import DataError, InterfaceError, PostgresError
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.broker.opening import blocking_connection
from worker.broker.pool import Pool
from worker.core.periodic import OUTAGES, PeriodicTask, keep_all_running
from worker.history.cutting import UNREADABLE, Unfit, cut, split
from worker.history.stream import Entry, RecordStream

logger = structlog.stdlib.get_logger("embarq.history")

MOST_BYTES = 8 * 1_048_576  # of records in a statement, and of entries in hand
FEWEST_BYTES = 65_536
STREAM_BYTES = 256 * 1_048_576
PRUNE_EVERY = 600.0
PRUNED_AT_ONCE = 5000
CLOSE_WITHIN = 2.0
LONGEST_SHOWN = 200  # characters that are logged of a record that is left out

# SQLSTATEs that say nothing about a record (Postgres' documentation, appendix A): connection, transaction,
# authorization, no such database or schema, rollback, tables that do not exist (yet), resources, object state,
# operator intervention, system error.
NOT_ITS_FAULT = ("08", "25", "28", "3D", "3F", "40", "42", "53", "55", "57", "58")

INSERT = (resources.files("worker.history") / "writing.sql").read_text()
PRUNE_JOBS = text("""
WITH old AS (SELECT id, enqueued_at FROM embarq_jobs WHERE finished_at < now() - CAST(:age AS interval) LIMIT :most),
     gone AS (DELETE FROM embarq_tries t USING old WHERE t.job_id = old.id AND t.enqueued_at = old.enqueued_at)
DELETE FROM embarq_jobs j USING old WHERE j.id = old.id AND j.enqueued_at = old.enqueued_at
""")


class HistoryWriter:
    """One of the consumers of the stream. An entry is acknowledged, and removed, after its rows are committed; entries
    of a dead writer are adopted by another. Writing twice changes nothing: rows have primary keys.

    While the database is unavailable it waits, and the stream grows. A record that the database refuses for its content
    is left out, logged and counted; nothing else waits for it.
    """

    def __init__(
        self, engine: AsyncEngine, pool: Pool, name: str, days: float, stream_bytes: int = STREAM_BYTES
    ) -> None:
        """`days`: how long rows are kept. `stream_bytes`: how large the stream may grow during an outage."""
        self._engine = engine
        self._pool = pool
        self._stream = RecordStream(pool, name, stream_bytes)
        self._keep = timedelta(days=days)
        self._most_bytes = MOST_BYTES
        self._pruned_at_once = PRUNED_AT_ONCE

    async def run(self) -> None:
        """Write until cancelled. No error ends it."""
        outages = (*OUTAGES, RedisError, SQLAlchemyError, PostgresError, InterfaceError)
        async with blocking_connection(self._pool) as redis:
            await keep_all_running(
                PeriodicTask("history", 0.0, lambda: self.write_once(redis), outages),
                PeriodicTask("history cleaner", PRUNE_EVERY, self._prune_all, outages),
            )

    async def write_once(self, blocking: Redis) -> None:
        """Write what is there: first pending and adopted entries, then new ones, as they come."""
        await self._stream.announce()
        entries = await self._stream.take(self._most_bytes) or await self._stream.wait(blocking)
        if entries:
            await self._stream.done(entries, await self._write_all(entries))

    async def _write_all(self, entries: Sequence[Entry]) -> int:
        """Write entries, in statements of bounded size; how many jobs were left out.

        After a failure, such as a timeout, the next attempt takes half as much; after a success, twice as much.
        """
        records, left_out = _records(entries)
        try:
            for batch in _batches(records, self._most_bytes):
                left_out += await self._write(batch)
        except BaseException:
            self._most_bytes = max(FEWEST_BYTES, self._most_bytes // 2)
            raise
        self._most_bytes = min(MOST_BYTES, self._most_bytes * 2)
        return left_out

    async def _write(self, records: Sequence[str]) -> int:
        """Write records at once; where the database refuses them, in halves, down to the one at fault.

        The database turns JSON into rows, which keeps that work out of the worker's event loop.
        """
        try:
            await self._insert("[" + ",".join(records) + "]")
        except (PostgresError, DataError) as error:
            if not _is_about_data(error):
                raise
            if len(records) == 1:
                _leave_out(_first_line(error), records[0].encode())
                return 1
            middle = len(records) // 2
            return await self._write(records[:middle]) + await self._write(records[middle:])
        return 0

    async def _insert(self, records: str) -> None:
        async with self._engine.connect() as connection:
            raw = await connection.get_raw_connection()
            driver: Any = raw.driver_connection
            try:
                await driver.execute(INSERT, records)
            except TimeoutError:
                await driver.close(timeout=CLOSE_WITHIN)
                raise

    async def _prune_all(self) -> None:
        try:
            while await self.prune_once() == self._pruned_at_once:
                pass
        except BaseException:
            self._pruned_at_once = max(10, self._pruned_at_once // 2)
            raise
        self._pruned_at_once = PRUNED_AT_ONCE

    async def prune_once(self) -> int:
        """Remove rows that are too old, at most 5,000 jobs; how many."""
        async with self._engine.begin() as connection:
            done = await connection.execute(PRUNE_JOBS, {"age": self._keep, "most": self._pruned_at_once})
            return int(done.rowcount)


class _Named(msgspec.Struct):
    id: str = "?"


class _Record(msgspec.Struct):
    r: _Named = msgspec.field(default_factory=_Named)


_NAMED = msgspec.json.Decoder(_Record)
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")  # an escaped NUL, which JSON allows and Postgres' jsonb refuses


def _records(entries: Sequence[Entry]) -> tuple[list[str], int]:
    """The records of entries in a form that the database accepts, and how many were left out as none could."""
    records: list[str] = []
    left_out = 0
    for entry in entries:
        try:
            listed = split(entry.json)
        except UNREADABLE as error:
            _leave_out(f"an entry of {entry.size} bytes: {error}")
            left_out += 1
            continue
        for each in listed:
            try:
                record = cut(each).decode()
            except (Unfit, UnicodeDecodeError) as error:
                _leave_out(_first_line(error), each)
                left_out += 1
            else:
                records.append(_NUL.sub(r"\1", record) if "\\u0000" in record else record)
    return records, left_out


def _batches(records: Sequence[str], most_bytes: int) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for record in records:
        if batch and size + len(record) > most_bytes:
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += len(record)
    if batch:
        yield batch


def _is_about_data(error: PostgresError | DataError) -> bool:
    """Whether the database refuses a value, so that a retry would not help."""
    return isinstance(error, DataError) or not str(error.sqlstate).startswith(NOT_ITS_FAULT)


def _leave_out(reason: str, record: bytes = b"{}") -> None:
    try:
        job_id = _NAMED.decode(record).r.id
    except UNREADABLE:
        job_id = "?"
    logger.error("left out of the history", reason=reason, job_id=job_id[:LONGEST_SHOWN])


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:LONGEST_SHOWN]
