"""The producer's side: enqueue, look up, wait. Where arq has a method for it, the method keeps its meaning."""

import asyncio
import itertools
import json
import os
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import Any, Self, TypeVar

from arq.connections import ArqRedis
from arq.jobs import Job as ArqJob
from arq.jobs import JobDef, JobResult, deserialize_job, deserialize_result

from worker import wire
from worker.batches import Batches
from worker.broker import keys
from worker.broker.broker import Broker, Cancelled, NewJob
from worker.broker.ends import Ends
from worker.broker.inspect import Inspector, WorkerRecord
from worker.broker.pool import make_pool, thread_client
from worker.definitions import Call
from worker.errors import BrokerUnavailable, JobEnded, JobNotFound
from worker.handle import JobHandle
from worker.job import Job, Priority, State

R = TypeVar("R")

ENQUEUE_PAUSES = (0.05, 0.25)
BULK = 1000
CANCELLED_KEPT_MS = 3_600_000
RECHECK = 1.0  # plain arq workers announce no end
_sequence = itertools.count(int.from_bytes(os.urandom(4)))


def new_id() -> str:
    """A unique id of 32 hexadecimal digits that sorts by time, then by order within this process."""
    return f"{time.time_ns() // 1_000_000:012x}{next(_sequence) & 0xFFFFFFFF:08x}{os.urandom(6).hex()}"


def arq_serializer(record: dict[str, Any]) -> bytes:
    """What plain arq must be given as `job_serializer` to share a queue with us."""
    return json.dumps(record).encode()


def arq_deserializer(data: bytes) -> dict[str, Any]:
    """What plain arq may be given as `job_deserializer`: as `json.loads`, and a failure's `r` becomes an exception
    again, so that `Job.result` raises it and `Job.abort` recognises a cancelled job."""
    record: dict[str, Any] = json.loads(data)
    failure = record.get("r")
    if record.get("s") is False and isinstance(failure, dict) and "message" in failure:
        cancelled = record.get("state") == "cancelled"
        message = f"{failure.get('type')}: {failure['message']}"
        record["r"] = asyncio.CancelledError(message) if cancelled else RuntimeError(message)
    return record


class Client(ArqRedis):
    """A connection pool to the queue.

    All methods of its own raise `BrokerUnavailable` when Redis does not answer. `client.enqueue` tries three times
    under the same id first, so a job is queued once however often the connection is cut.
    """

    def __init__(self, url: str, *, size: int = 50, verify_tls: bool = True) -> None:
        pool = make_pool(url, size=size, verify_tls=verify_tls)
        super().__init__(pool_or_conn=pool, job_serializer=arq_serializer, job_deserializer=arq_deserializer)
        self.broker = Broker(self)
        self.inspector = Inspector(self)
        self.connections = pool
        self.for_thread = partial(thread_client, url, verify_tls=verify_tls)
        self._ends = Ends(pool)
        self._batches = Batches(self._enqueue)

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, *, size: int = 50, verify_tls: bool = True) -> AsyncIterator[Self]:
        """A client that connects when it is first used, and closes its connections on leaving."""
        client = cls(url, size=size, verify_tls=verify_tls)
        try:
            yield client
        finally:
            await client._batches.close()
            await client._ends.close()
            await client.aclose(close_connection_pool=True)

    async def enqueue(self, call: Call[R]) -> JobHandle[R]:
        """Queue one call; the handle's `created` is False when a job with the given id was there already."""
        job = _new_job(call.options.get("id"), call)
        return JobHandle(job.id, self, created=await self._batches.add(job))

    async def enqueue_many(self, calls: Iterable[Call[R]]) -> list[JobHandle[R]]:
        """Queue many calls, a thousand a round trip; handles in the order of the calls.

        Each thousand is queued whole or not at all. Calls with ids of their own may be given again after an error.

        Raises:
            BrokerUnavailable: Redis did not answer; what came before that thousand is queued.
        """
        handles: list[JobHandle[R]] = []
        sent: asyncio.Task[list[bool]] | None = None
        ids: list[str] = []
        remaining = iter(calls)
        while jobs := [_new_job(call.options.get("id"), call) for call in itertools.islice(remaining, BULK)]:
            if sent is not None:  # one thousand is packed while the one before is on its way
                handles += self._handles(ids, await sent)
            sent, ids = asyncio.create_task(self._enqueue(jobs)), [job.id for job in jobs]
            await asyncio.sleep(0)
        if sent is not None:
            handles += self._handles(ids, await sent)
        return handles

    def _handles(self, ids: Iterable[str], created: Iterable[bool]) -> list[JobHandle[Any]]:
        return [JobHandle(job_id, self, created=new) for job_id, new in zip(ids, created, strict=True)]

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
        """Arq's own call with its meaning, through our script: no argument is checked, any function goes."""
        if _defer_until and _defer_by:
            raise RuntimeError("use either 'defer_until' or 'defer_by' or neither, not both")
        queue = _queue_name or self.default_queue_name
        payload = wire.Payload(
            first_try=_job_try,
            job=function,
            args=list(args),
            kwargs=kwargs,
            options=wire.CallOptions(queue=queue, expires_in_ms=_milliseconds(_expires)),
            nonce=new_id(),
            enqueued_ms=0,
        )
        job_id = _job_id or new_id()
        due_ms = int(_defer_until.timestamp() * 1000) if _defer_until else None
        created = await self._batches.add(_pack(job_id, queue, payload, _milliseconds(_defer_by) or 0, due_ms))
        return ArqJob(job_id, self, queue, self.job_deserializer) if created else None

    async def queued_jobs(self, *, queue_name: str | None = None) -> list[JobDef]:
        """Arq's own call: what waits or runs in a queue, all of it. Jobs that end meanwhile are left out."""
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
        """Arq's own call: every result that is kept, oldest job first. For few results; the history is for many."""
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

    async def _enqueue(self, jobs: Sequence[NewJob]) -> list[bool]:
        for pause in ENQUEUE_PAUSES:
            try:
                return await self.broker.enqueue(jobs)
            except BrokerUnavailable:
                await asyncio.sleep(pause)
        return await self.broker.enqueue(jobs)

    async def find(self, job_id: str) -> Job:
        """The job as it is now.

        Raises:
            JobNotFound: there is none, or its result is no longer kept.
        """
        return await self.inspector.find(job_id)

    async def wait_for(self, job_id: str, timeout: float | None = None) -> Job:
        """The job once it has ended, or as it is after `timeout` seconds (None: wait for ever).

        Raises:
            JobNotFound: there is none, or its result is no longer kept.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        async with self._ends.watch(job_id) as ended:
            while True:
                job = await self.find(job_id)
                left = RECHECK if deadline is None else min(RECHECK, deadline - time.monotonic())
                if job.state.ended or left <= 0:
                    return job
                try:
                    await asyncio.wait_for(ended.wait(), left)
                except TimeoutError:
                    continue
                ended.clear()

    async def cancel(self, job_id: str) -> State:
        """Cancel a job: one that waits is cancelled at once, one that runs is told, and ends within seconds.

        Returns the state that it is in now.

        Raises:
            JobNotFound: there is none, or its result is no longer kept.
            JobEnded: it is too late.
        """
        job = await self.find(job_id)
        answer = await self.broker.cancel(job_id, CANCELLED_KEPT_MS)
        if answer is Cancelled.UNKNOWN:
            raise JobNotFound(job_id)
        if answer is Cancelled.ENDED:
            raise JobEnded(job_id, job.state if job.state.ended else (await self.find(job_id)).state)
        return State.CANCELLED if answer is Cancelled.CANCELLED else State.RUNNING

    async def workers(self) -> Sequence[WorkerRecord]:
        """The workers whose heartbeat is fresh."""
        return await self.inspector.workers()


def _milliseconds(value: float | timedelta | None) -> int | None:
    if value is None:
        return None
    return int((value.total_seconds() if isinstance(value, timedelta) else value) * 1000)


def _new_job(asked_id: str | None, call: Call[Any]) -> NewJob:
    nonce = new_id()
    declared, asked = call.definition.declared, call.options
    priority = Priority(asked.get("priority", declared.get("priority", Priority.NORMAL)))
    queue = keys.queue_key(asked.get("queue", declared.get("queue", "default")), priority)
    ttl = asked.get("result_ttl", -1)
    options = wire.CallOptions(
        queue=queue,
        timeout_ms=_milliseconds(asked.get("timeout")),
        soft_timeout_ms=_milliseconds(asked.get("soft_timeout")),
        max_tries=asked.get("max_tries"),
        result_ttl_ms=None if ttl == -1 else wire.FOREVER_MS if ttl is None else _milliseconds(ttl),
        expires_in_ms=_milliseconds(asked.get("expires_in")),
        tags=tuple(asked.get("tags", ())),
    )
    payload = wire.Payload(
        job=call.definition.name, kwargs=dict(call.arguments), options=options, nonce=nonce, enqueued_ms=0
    )
    run_at = asked.get("run_at")
    due_ms = None if run_at is None else int(run_at.timestamp() * 1000)
    return _pack(asked_id or nonce, queue, payload, _milliseconds(asked.get("delay")) or 0, due_ms)


def _pack(job_id: str, queue: str, payload: wire.Payload, delay_ms: int, due_ms: int | None) -> NewJob:
    data = wire.dump_payload(payload)
    return NewJob(job_id, queue, payload.nonce or "", data, delay_ms, due_ms)
