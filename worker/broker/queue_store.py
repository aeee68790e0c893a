"""The queue's transitions: a typed method for each script. What each does to a job: `docs/state-machine.md`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from worker.broker import scripts
from worker.broker.availability import unavailable_when_away
from worker.broker.exchange import Claimed
from worker.broker.round_trips import RoundTrips, life
from worker.core import keys, wire
from worker.core.errors import CallRefused
from worker.core.job import Priority


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to queue. `payload` is JSON without its times, which the script adds. `unique`: as the script reads it."""

    id: str
    queue_key: str
    request_id: str
    payload: bytes
    delay_ms: int = 0
    due_ms: int | None = None
    unique: str = ""


class EnqueueResult(NamedTuple):
    """The job that stands for a call: a new one, or one that was there."""

    id: str
    created: bool


@dataclass(frozen=True, slots=True)
class Renewal:
    """A running job's lease, its progress as JSON when there is news, the keys of the limits that it holds."""

    claimed: Claimed
    progress: bytes = b""
    limits: Sequence[str] = ()


class Step(StrEnum):
    """What became of a step that is to run once, or what its caller may do now."""

    DONE = "done"
    YOURS = "yours"
    HELD = "held"
    LOST = "lost"


class StepAction(StrEnum):
    """What the caller of a step that is to run once asks for."""

    BEGIN = "begin"
    DONE = "done"
    UNDONE = "undone"


class Cancelled(StrEnum):
    """What a request to cancel found: `CANCELLING` is a job that runs and has been signalled."""

    CANCELLED = "cancelled"
    CANCELLING = "cancelling"
    ENDED = "ended"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Renewed:
    """What a renewal found out: leases that were lost, jobs that are to be stopped."""

    lost: list[str]
    aborted: list[str]


class QueueStore(RoundTrips):
    """All writes to the queue. Every method raises `BrokerUnavailable` when Redis cannot serve it."""

    async def enqueue(self, jobs: Sequence[NewJob]) -> list[EnqueueResult]:
        """Queue jobs, or find those that stand for them already. Safe to repeat with the same request ids.

        Raises:
            CallRefused: one of them is wrong; none was queued.
        """
        arguments: list[scripts.Argument] = []
        for job in jobs:
            due = "" if job.due_ms is None else job.due_ms
            arguments += (job.id, job.queue_key, job.delay_ms, due, job.request_id, job.payload, job.unique)
        with unavailable_when_away(), _refusals():
            answers = await scripts.run(self._redis, scripts.ENQUEUE, (), arguments)
        return [
            EnqueueResult(job.id, answer == 1) if isinstance(answer, int) else EnqueueResult(answer.decode(), False)
            for job, answer in zip(jobs, answers, strict=True)
        ]

    async def whereabouts(self, job_ids: Sequence[str]) -> tuple[set[str], set[str]]:
        """Which of these jobs have ended, and of which there is no trace at all."""
        pipe = self._redis.pipeline(transaction=False)
        for job_id in job_ids:
            pipe.exists(keys.RESULT + job_id, keys.ENDED + job_id)
            pipe.exists(keys.JOB + job_id)
        with unavailable_when_away():
            found = await pipe.execute()
        seen = list(zip(job_ids, found[::2], found[1::2], strict=True))
        ended = {job_id for job_id, result, _ in seen if result}
        return ended, {job_id for job_id, result, payload in seen if not result and not payload}

    async def forget_ended(self, job_ids: Sequence[str]) -> None:
        """Forget that durable jobs have ended: their database does not keep them on record any more."""
        if job_ids:
            with unavailable_when_away():
                await self._redis.unlink(*(keys.ENDED + job_id for job_id in job_ids))

    async def renew(self, lease_ms: int, renewals: Sequence[Renewal]) -> Renewed:
        """Extend the leases of running jobs and store their progress."""
        with unavailable_when_away():
            answer = await scripts.run(self._redis, scripts.RENEW, (), renewal_arguments(lease_ms, renewals))
        return read_renewed(answer)

    async def cancel(self, job_id: str, ttl_ms: int | None) -> Cancelled:
        """Cancel a job; `ttl_ms` is how long the result of one that waits is kept (None: without end)."""
        with unavailable_when_away():
            answer = await scripts.run(self._redis, scripts.CANCEL, (), (job_id, life(ttl_ms)))
        return Cancelled(answer.decode())

    async def pause(self, queue: str, *, resume: bool = False) -> bool:
        """Pause or resume claims of a queue; whether that changed something."""
        arguments = (keys.queue_key(queue), "resume" if resume else "pause")
        with unavailable_when_away():
            return bool(await scripts.run(self._redis, scripts.PAUSE, (), arguments))

    async def purge(self, queue: str, ttl_ms: int) -> int:
        """Cancel all that waits in a queue, a slice at a time; how many those were."""
        total = 0
        for priority in Priority:
            place = 0
            while place >= 0:
                arguments = (keys.queue_key(queue, priority), place, ttl_ms)
                with unavailable_when_away():
                    cancelled, place = await scripts.run(self._redis, scripts.PURGE, (), arguments)
                total += cancelled
        return total

    async def once(
        self, key: str, claimed: Claimed, action: StepAction, *, value: bytes = b"", keep_ms: int
    ) -> tuple[Step, bytes]:
        """Begin or end a step that is to run once; with `Step.DONE` comes the value that it returned."""
        arguments = (key, claimed.id, claimed.token, action.value, value, keep_ms)
        with unavailable_when_away():
            answer, kept = await scripts.run(self._redis, scripts.ONCE, (), arguments)
        return Step(answer.decode()), kept

    async def heartbeat(
        self, worker: str, record: bytes, ttl_ms: int, queue_keys: Sequence[str], event_bytes: int = 0
    ) -> list[str]:
        """Record that a worker lives and which queues it serves, for `ttl_ms`; 0 removes the record.

        `event_bytes`: what the stream of events may take; 0 leaves it as it is.
        Returns the keys of the queues that were used or served recently; of more than 64, some.
        """
        arguments: list[scripts.Argument] = [worker, record, ttl_ms, event_bytes, *queue_keys]
        with unavailable_when_away():
            known = await scripts.run(self._redis, scripts.HEARTBEAT, (), arguments)
        return [key.decode() for key in known]


def renewal_arguments(lease_ms: int, renewals: Sequence[Renewal]) -> list[scripts.Argument]:
    """What the renew script takes."""
    arguments: list[scripts.Argument] = [lease_ms]
    for renewal in renewals:
        claimed = renewal.claimed
        arguments += (claimed.id, claimed.queue_key, claimed.token, renewal.progress, _limits_json(renewal.limits))
    return arguments


def read_renewed(answer: Any) -> Renewed:
    """What the renew script returns."""
    lost, aborted = answer
    return Renewed([i.decode() for i in lost], [i.decode() for i in aborted])


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn a script's refusal, by which it says that its input was wrong and it wrote nothing, into `CallRefused`."""
    try:
        yield
    except ResponseError as error:
        if not str(error).startswith(keys.REFUSED):
            raise
        raise CallRefused(str(error).removeprefix(keys.REFUSED).strip()) from error


def _limits_json(limits: Sequence[str]) -> bytes:
    return wire.dumps(limits) if limits else b""
