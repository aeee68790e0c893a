"""What plain arq's code is handed in place of its own client: the same calls and meanings, through our scripts."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

from arq.connections import ArqRedis
from arq.jobs import Job as ArqJob
from arq.jobs import JobDef, JobResult, deserialize_job, deserialize_result
from redis.asyncio import ConnectionPool

from worker.broker.encoding import milliseconds, new_id
from worker.broker.queue_store import EnqueueResult, NewJob
from worker.core import keys, wire
from worker.core.errors import CallRefused
from worker.core.job import read_error
from worker.core.raised import rebuilt


def arq_serializer(record: dict[str, Any]) -> bytes:
    """What plain arq must be given as `job_serializer` to share a queue with us."""
    return json.dumps(record).encode()


def arq_deserializer(data: bytes) -> dict[str, Any]:
    """What plain arq may be given as `job_deserializer`: as `json.loads`, and a failure's `r` becomes an exception
    again, so that `Job.result` raises it and `Job.abort` recognises a cancelled job: of the class that the job raised,
    where this process has loaded that, else a `RuntimeError`."""
    record: dict[str, Any] = json.loads(data)
    failure = record.get("r")
    if record.get("s") is False and isinstance(failure, dict) and "message" in failure:
        cancelled = record.get("state") == "cancelled"
        message = f"{failure.get('type')}: {failure['message']}"
        raised = rebuilt(read_error(failure)) or RuntimeError(message)
        record["r"] = asyncio.CancelledError(message) if cancelled else raised
    return record


class ArqAdapter(ArqRedis):
    """A client of ours as plain arq's: `enqueue_job`, `queued_jobs`, `all_job_results`, arq's `Job(id, pool)` and
    redis-py's commands work on it, and arq's `Worker` takes it for its `redis_pool`. The connections are the client's,
    and only that closes them."""

    def __init__(
        self,
        pool: ConnectionPool,
        place: Callable[[NewJob], Awaitable[EnqueueResult]],
        stored_id: Callable[[str], str],
        *,
        max_arguments: int,
        **options: Any,
    ) -> None:
        """`place` queues a job, `stored_id` says what one is called in Redis, `max_arguments` the bytes that a call may
        take. `options`: those of redis-py's client."""
        self._place = place
        self._stored_id = stored_id
        self._max_arguments = max_arguments
        super().__init__(pool, arq_serializer, arq_deserializer, **options)

    def client(self) -> "ArqAdapter":
        """One that keeps a connection to itself; see redis-py's `Redis.client`."""
        pool, place, stored_id = self.connection_pool, self._place, self._stored_id
        return ArqAdapter(pool, place, stored_id, max_arguments=self._max_arguments, single_connection_client=True)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Give back the connection that it keeps to itself, if any. The others stay open, whatever is asked for."""
        await super().aclose(close_connection_pool=False)

    async def enqueue_job(
        self,
        function: str,
        *args: Any,
        _job_id: str | None = None,
        _queue_name: str | None = None,
        _defer_until: datetime | None = None,
        _defer_by: float | timedelta | None = None,
        _expires: float | timedelta | None = None,
        _job_try: int | None = None,
        **kwargs: Any,
    ) -> ArqJob | None:
        """Queue any function under any arguments: nothing but their size is checked. None when the id is taken.

        Raises:
            CallRefused: the id holds a `~`, which those have that our own code makes, or something is out of bounds.
            InvalidArguments: they take more bytes than the client takes.
        """
        if _defer_until and _defer_by:
            raise RuntimeError("use either 'defer_until' or 'defer_by' or neither, not both")
        if keys.MARK in (_job_id or ""):
            raise CallRefused(f"{_job_id!r}: an id must not hold {keys.MARK!r}")
        queue = _queue_name or self.default_queue_name
        request_id = new_id()
        payload = wire.Payload(
            first_try=_job_try,
            job=function,
            args=list(args),
            kwargs=kwargs,
            options=wire.CallOptions(queue=queue, expires_in_ms=milliseconds(_expires)),
            request_id=request_id,
            enqueued_ms=0,
        )
        due_ms = int(_defer_until.timestamp() * 1000) if _defer_until else None
        data = wire.dump_payload(payload, self._max_arguments)
        delay_ms = milliseconds(_defer_by) or 0
        placed = await self._place(NewJob(_job_id or request_id, queue, request_id, data, delay_ms, due_ms))
        return ArqJob(self._stored_id(placed.id), self, queue, self.job_deserializer) if placed.created else None

    async def queued_jobs(self, *, queue_name: str | None = None) -> list[JobDef]:
        """What waits or runs in a queue, all of it. Jobs that end meanwhile are left out."""
        entries = await self.zrange(queue_name or self.default_queue_name, 0, -1, withscores=True)
        payloads = await self.mget([keys.JOB + job_id.decode() for job_id, _ in entries]) if entries else []
        found = []
        for (job_id, score), payload in zip(entries, payloads, strict=True):
            if payload is not None:
                job = deserialize_job(payload, deserializer=self.job_deserializer)
                job.score, job.job_id = int(score), job_id.decode()
                found.append(job)
        return found

    async def all_job_results(self) -> list[JobResult]:
        """Every result that is kept, oldest job first. For few results; the history is for many."""
        found = []
        async for page in self._pages(f"{keys.RESULT}*"):
            for key, result in zip(page, await self.mget(page), strict=True):
                if result is not None:
                    found.append(deserialize_result(result, deserializer=self.job_deserializer))
                    found[-1].job_id = key.decode().removeprefix(keys.RESULT)
        return sorted(found, key=attrgetter("enqueue_time"))

    async def _pages(self, pattern: str) -> AsyncIterator[list[bytes]]:
        cursor = None
        while cursor != 0:
            cursor, page = await self.scan(cursor or 0, match=pattern, count=1000)
            if page:
                yield page
