"""The stream of ended jobs in Redis, for one of the writers. The writers are a consumer group."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from redis.asyncio import Redis

from worker.broker import scripts
from worker.broker.inspect import Inspector
from worker.broker.pool import Pool
from worker.core import keys

logger = structlog.stdlib.get_logger("embarq.history")

GROUP = "history"
ENTRIES = 100
LARGEST_ENTRY = 64 * 1_048_576
LONGEST_COUNT = 19  # digits
BLOCK_MS = 2000
ANSWER_WITHIN = 10.0  # seconds beyond that wait
ADOPT_AFTER_MS = 30_000  # well above the time of a statement: a slow writer is not a dead one
RECORDS_PART = 4  # of a server's memory that entries may take: a quarter
RECORDED_FOR = 86400  # seconds after the last announcement of a writer: an abandoned database must not fill Redis


@dataclass(frozen=True, slots=True)
class Entry:
    """Jobs that ended together, as a JSON list of `size` bytes; empty where that is larger than a writer accepts."""

    id: bytes
    size: int
    json: bytes


@dataclass(frozen=True, slots=True)
class Backlog:
    """How much of the history is not in the database. dropped, left_out: jobs that never will be, because the stream
    was full, or because the database refused them."""

    entries: int
    dropped: int
    left_out: int


async def backlog(redis: Redis) -> Backlog:
    """What waits, and what was lost since this Redis began."""
    pipe = redis.pipeline(transaction=False)
    pipe.xlen(keys.RECORDS)
    pipe.get(keys.RECORDS_DROPPED)
    pipe.get(keys.RECORDS_LEFT_OUT)
    entries, dropped, left_out = await pipe.execute(raise_on_error=False)
    return Backlog(_number(entries), _number(dropped), _number(left_out))


class RecordStream:
    """One writer's access to the stream. An entry that was taken stays pending for it until it acknowledges it."""

    def __init__(self, pool: Pool, name: str, most_bytes: int) -> None:
        """`most_bytes`: how large the stream may grow before its oldest entries are dropped; a quarter of the server's
        memory, if that is less."""
        self._redis = Redis(connection_pool=pool)
        self._name = name
        self._most_bytes = most_bytes
        self._may_take: int | None = None
        self._dropped: int | None = None

    async def announce(self) -> None:
        """Announce that ended jobs are to be recorded, and log how many were dropped since the last time."""
        if self._may_take is None:
            self._may_take = (await Inspector(self._redis).server()).share(self._most_bytes, RECORDS_PART)
        pipe = self._redis.pipeline(transaction=False)
        pipe.set(keys.RECORDING, self._may_take, ex=RECORDED_FOR)
        pipe.get(keys.RECORDS_DROPPED)
        announced, counted = await pipe.execute(raise_on_error=False)
        if isinstance(announced, Exception):
            raise announced
        dropped = _number(counted)
        if self._dropped is not None and dropped > self._dropped:
            logger.warning("the history's stream was full: jobs are missing", jobs=dropped - self._dropped)
        self._dropped = dropped

    async def take(self, most_bytes: int) -> list[Entry]:
        """This writer's pending entries, then those of dead writers, then new ones, up to `most_bytes`."""
        arguments = (GROUP, self._name, ENTRIES, most_bytes, LARGEST_ENTRY, ADOPT_AFTER_MS)
        gone, flat = await scripts.run(self._redis, scripts.RECORDS_TAKE, (), arguments)
        if gone:
            logger.warning("entries of the history were dropped before they were written", entries=gone)
        return [Entry(*each) for each in zip(flat[::3], flat[1::3], flat[2::3], strict=True)]

    async def wait(self, blocking: Redis) -> list[Entry]:
        """The next new entry; none when nothing comes for two seconds.

        Raises:
            TimeoutError: Redis does not answer.
        """
        async with asyncio.timeout(BLOCK_MS / 1000 + ANSWER_WITHIN):
            fresh = await blocking.xreadgroup(GROUP, self._name, {keys.RECORDS: ">"}, count=1, block=BLOCK_MS)
        if not fresh:
            return []
        entry_id, fields = fresh[0][1][0]
        json = fields.get(b"e", b"")
        return [Entry(entry_id, len(json), json if len(json) <= LARGEST_ENTRY else b"")]

    async def done(self, entries: Sequence[Entry], left_out: int) -> None:
        """Acknowledge and remove entries whose jobs are in the database, all but `left_out` of them."""
        arguments: list[scripts.Argument] = [GROUP, left_out]
        for entry in entries:
            arguments += (entry.id, entry.size)
        await scripts.run(self._redis, scripts.RECORDED, (), arguments)


def _number(value: object) -> int:
    """A count; 0 where somebody else has put something else there, which the next one who counts replaces.

    Raises:
        RedisError: the server cannot serve it now.
    """
    if isinstance(value, Exception) and "WRONGTYPE" not in str(value):
        raise value
    if isinstance(value, bytes):
        return int(value) if value.isdigit() and len(value) < LONGEST_COUNT else 0
    return value if isinstance(value, int) else 0
