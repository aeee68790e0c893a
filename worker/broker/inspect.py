"""Read-only queries: a job as it is now, and the live workers. Their cost does not grow with the queue."""

import contextlib
import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from worker.broker import scripts
from worker.broker.availability import unavailable_when_away
from worker.broker.job_facts import JobFacts
from worker.broker.known_jobs import KnownJobs
from worker.broker.server import ServerFacts
from worker.broker.versions import too_old
from worker.core import keys, wire
from worker.core.errors import JobNotFound, MalformedPayload, ServerTooOld
from worker.core.job import Job, JobAttempt, JobError, Priority, Progress, State, from_ms, read_error
from worker.core.texts import head

DAMAGED_TOLD = 5
T = TypeVar("T")

# Now in ms; result, payload, lease; tries; due time in ms, queue, record of the run, progress; earlier tries.
LookUp = tuple[bytes, bytes, bytes, bytes, int, bytes, bytes, bytes, bytes, Sequence[bytes]]


class WorkerRecord(KnownJobs, frozen=True, kw_only=True):
    """What a worker reports at each heartbeat. `started_at` is Unix seconds, `rate` the tries that it ended per second,
    recently."""

    id: str
    host: str
    pid: int
    queues: list[str]
    concurrency: int
    running: int
    started_at: float
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class QueueRecord:
    """A queue at one moment, all its levels together.

    waiting: due and not taken. limited: due, but over a limit, or set aside to run isolated. later: running, deferred,
    or waiting to retry. latency: seconds that the oldest waiting job has been due.
    """

    queue: str
    paused: bool
    waiting: int
    limited: int
    later: int
    latency: float


# State, worker id (any visible ASCII but a colon) with the number of its claim, start in ms, leases lost in a row.
_RUN = re.compile(rb"(\w+) ([\x21-\x39\x3b-\x7e]*)(?::\S*)? (\d{1,14}) \d+")


@dataclass(frozen=True, slots=True)
class _RunRecord:
    """The record `embarq:run:<id>`; `worker` is who runs it. All fields are empty where it cannot be read."""

    state: str = ""
    worker: str = ""
    started_ms: int = 0

    @classmethod
    def read(cls, record: bytes) -> "_RunRecord":
        match = _RUN.fullmatch(record)
        return cls(match[1].decode(), match[2].decode(), int(match[3])) if match else cls()


@dataclass(frozen=True, slots=True)
class _Waiting:
    """The answer of the look-up script for a job that has not ended."""

    now_ms: int
    leased: bool
    tries: int
    due_ms: int
    queue_key: str
    run: "_RunRecord"
    progress: Progress | None
    history: tuple[JobAttempt, ...]

    @property
    def state(self) -> State:
        if self.leased:
            return State.RUNNING
        if self.due_ms >= keys.PARKED_SCORE:
            return State.QUEUED
        if self.run.state == "retry":
            return State.RETRYING
        return State.DEFERRED if self.due_ms > self.now_ms else State.QUEUED


class Inspector:
    """Looks things up in Redis. Every method raises `BrokerUnavailable` when Redis cannot serve it.

    `unread`: results of jobs stay as they are written, as `msgspec.Raw`, for those who only pass them on.
    """

    def __init__(self, redis: Redis, *, unread: bool = False) -> None:
        self._kind: type[wire.Result] = wire.UnreadResult if unread else wire.Result
        self._redis = redis

    def unread(self) -> "Inspector":
        """An inspector for those who only pass results on."""
        return Inspector(self._redis, unread=True)

    async def find(self, job_id: str) -> Job:
        """The job as it is now.

        Raises:
            JobNotFound: there is none, or its result is no longer kept.
        """
        now, result, payload, lease, tries, due, queue, run, progress, history = await self.look_up(job_id)
        past = tuple(_try(record) for record in _readable(history, wire.AttemptRecord))
        if result:
            return _ended(job_id, result, past, self._kind)
        if not payload:
            raise JobNotFound(job_id)
        latest = _progress(next(iter(_readable([progress], wire.ProgressRecord)), None))
        seen = _Waiting(int(now), lease != b"", tries, int(due), queue.decode(), _RunRecord.read(run), latest, past)
        return _waiting(job_id, payload, seen)

    async def look_up(self, job_id: str) -> LookUp:
        """What is known of a job at one moment, as the script returns it."""
        with unavailable_when_away():
            answer: LookUp = await scripts.run(self._redis, scripts.LOOKUP, (), (job_id,))
        return answer

    async def why(self, job_id: str) -> JobFacts:
        """What a job waits for."""
        with unavailable_when_away():
            answer = await scripts.run(self._redis, scripts.WHY, (), (job_id,))
        try:
            return msgspec.json.decode(answer, type=JobFacts)
        except (msgspec.MsgspecError, UnicodeDecodeError):  # of a workflow that a stranger has damaged
            return JobFacts(time.time() * 1000)

    async def workers(self) -> list[WorkerRecord]:
        """The workers whose heartbeat is fresh."""
        with unavailable_when_away():
            records = await scripts.run(self._redis, scripts.WORKERS)
        return _readable(records, WorkerRecord)

    async def queues(self) -> list[QueueRecord]:
        """Every queue that was ever used; the cost grows with their number, not with that of jobs."""
        with unavailable_when_away():
            records = await scripts.run(self._redis, scripts.QUEUE_STATS)
        found: dict[str, QueueRecord] = {}
        for key, paused, waiting, limited, total, oldest in records:
            name, _ = keys.parse_queue_key(key.decode())
            one = QueueRecord(name, bool(paused), waiting, limited, total - waiting - limited, oldest / 1000)
            found[name] = one if name not in found else _sum(found[name], one)
        return sorted(found.values(), key=lambda record: record.queue)

    async def no_queues(self, queue_keys: Sequence[str]) -> dict[str, str]:
        """Those of the keys that hold somebody else's data, and what to do about it. Only keys of the user's choice are
        checked: under a key of our own naming, foreign data is set aside when a job comes."""
        named = [key for key in queue_keys if keys.parse_queue_key(key)[0].startswith(keys.BY_KEY)]
        if not named:
            return {}
        pipe = self._redis.pipeline(transaction=False)
        for key in named:
            pipe.type(key)
        with unavailable_when_away():
            kinds = [kind.decode() for kind in await pipe.execute()]
        return {
            key: f"{key!r} must be free or hold a queue, and holds a {kind} in this Redis: choose another, or remove it"
            for key, kind in zip(named, kinds, strict=True)
            if kind not in {"zset", "none"}
        }

    async def names(self, queue_key: str) -> AsyncIterator[str]:
        """The names of the jobs in a level of a queue, '' for those that cannot be read. Every job that is there from
        beginning to end is among them, some twice: these are the guarantees of Redis' SCAN."""
        place: bytes = b"0"
        while True:
            with unavailable_when_away():
                place, *found = await scripts.run(self._redis, scripts.NAMES, (), (queue_key, place))
            for name in found:
                yield name.decode(errors="replace")
            if place == b"0":
                return

    async def server(self) -> ServerFacts:
        """What the server says of itself."""
        info, refusal = await self._info()
        with unavailable_when_away():
            damaged = await self._damaged()
        policy = str(info.get("maxmemory_policy", "noeviction"))
        version = str(info.get("redis_version", "?"))
        return ServerFacts(
            version=str(info.get("valkey_version", version)),
            problem=str(ServerTooOld(version)) if too_old(version) else None,
            memory=str(info.get("used_memory_human", "?")),
            most_bytes=int(info.get("maxmemory", 0)),
            damaged=damaged,
            evicts=bool(info.get("maxmemory")) and policy != "noeviction",
            policy=policy,
            persists=bool(info.get("aof_enabled")),
            refusal=refusal,
        )

    async def _info(self) -> tuple[dict[str, Any], str | None]:
        """The answer to INFO, or the error in its place: an ACL, or a hosted Redis, may refuse the command."""
        try:
            with unavailable_when_away():
                return await self._redis.info(), None
        except ResponseError as error:
            return {}, str(error)

    async def _damaged(self) -> tuple[str, ...]:
        try:
            found = await self._redis.execute_command("ZREVRANGE", keys.DAMAGED_KEYS, 0, DAMAGED_TOLD - 1)
        except ResponseError:  # the list itself holds another type
            return (keys.DAMAGED_KEYS,)
        return tuple(key.decode(errors="replace") for key in found)


def _readable(records: Sequence[bytes], kind: type[T]) -> list[T]:
    """Those of the records that can be read: one that is damaged hides no other."""
    found = []
    for record in records:
        with contextlib.suppress(MalformedPayload):
            found.append(wire.loads(record, kind))
    return found


def _sum(one: QueueRecord, other: QueueRecord) -> QueueRecord:
    return QueueRecord(
        one.queue,
        one.paused or other.paused,
        one.waiting + other.waiting,
        one.limited + other.limited,
        one.later + other.later,
        max(one.latency, other.latency),
    )


def _arguments(record: wire.Payload | wire.Result) -> dict[str, Any]:
    """Arguments by name; positional ones, as plain arq clients send them, by their place."""
    return {str(place): value for place, value in enumerate(record.args)} | record.kwargs


def _try(record: wire.AttemptRecord) -> JobAttempt:
    return JobAttempt(
        number=record.number,
        outcome=record.outcome,
        started_at=from_ms(record.started_ms),
        finished_at=None if record.finished_ms is None else from_ms(record.finished_ms),
        worker=record.worker,
        error=read_error(record.error),
    )


def _progress(record: wire.ProgressRecord | None) -> Progress | None:
    return None if record is None else Progress(record.current, record.total, record.message, record.meta)


def _waiting(job_id: str, payload: bytes, seen: _Waiting) -> Job:
    queue, priority = keys.parse_queue_key(seen.queue_key)
    run = seen.run
    try:
        record = wire.loads(payload, wire.Payload)
    except MalformedPayload as error:
        record = wire.Payload(job="?", enqueued_ms=seen.due_ms if seen.due_ms > 0 else seen.now_ms)
        problem: JobError | None = JobError("MalformedPayload", str(error))
    else:
        problem = None
    waits = seen.state in (State.DEFERRED, State.RETRYING)
    running = seen.state is State.RUNNING
    return Job(
        id=job_id,
        name=record.job,
        queue=queue,
        priority=priority,
        state=seen.state,
        args=_arguments(record),
        tries=seen.tries,
        max_tries=record.options.max_tries,
        enqueued_at=from_ms(record.enqueued_ms),
        scheduled_for=from_ms(seen.due_ms) if waits else None,
        started_at=from_ms(run.started_ms) if run.started_ms and seen.tries else None,
        progress=seen.progress,
        error=problem,
        worker=run.worker if running else None,
        tags=record.options.tags,
        workflow_id=record.options.workflow,
        attempts=seen.history,
    )


def _ended(job_id: str, data: bytes, past: tuple[JobAttempt, ...], kind: type[wire.Result]) -> Job:
    try:
        record = wire.loads(data, kind)
        failure = record.notice if record.success else _read(record.result)
        state = _end(record)
    except MalformedPayload as problem:
        return _unreadable(job_id, str(problem))
    queue, priority = keys.parse_queue_key(record.queue)
    error = read_error(failure)
    started = from_ms(record.started_ms) if record.started_ms else None
    finished = from_ms(record.finished_ms)
    last = (JobAttempt(record.tries, state, started, finished, record.worker, error),) if started else ()
    return Job(
        id=job_id,
        name=record.job,
        queue=queue,
        priority=priority,
        state=state,
        args=_arguments(record),
        tries=record.tries,
        max_tries=record.options.max_tries,
        enqueued_at=from_ms(record.enqueued_ms),
        started_at=started,
        finished_at=finished,
        progress=_progress(record.progress),
        result=record.result if record.success else None,
        error=error,
        worker=record.worker,
        tags=record.options.tags,
        workflow_id=record.options.workflow,
        attempts=past + last,
    )


def _end(record: wire.Result) -> State:
    if not record.state:
        return State.SUCCEEDED if record.success else State.FAILED
    known = next((state for state in State if state == record.state and state.ended), None)
    if known is None:
        raise MalformedPayload(f"state must be a final state of a job, not {head(repr(record.state), 100)}")
    return known


def _read(value: Any) -> Any:
    return wire.loads(bytes(value), object) if isinstance(value, msgspec.Raw) else value


def _unreadable(job_id: str, reason: str) -> Job:
    """A result that another program wrote in another format: the job ended, but how cannot be read."""
    return Job(
        id=job_id,
        name="?",
        queue="default",
        priority=Priority.NORMAL,
        state=State.FAILED,
        args={},
        tries=0,
        max_tries=None,
        enqueued_at=from_ms(0),
        error=JobError("MalformedPayload", reason),
    )
