"""Calls to enqueue that come together, sent together."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from worker.broker.queue_store import EnqueueResult, NewJob
from worker.core.errors import BrokerUnavailable, Overloaded

# A script holds Redis for all clients while it runs: 500 jobs take it a few milliseconds, as do 4 MB.
MOST = 500
MOST_BYTES = 4_000_000  # of payload in one script call
MOST_WAITING = 50_000
MOST_BYTES_WAITING = 64_000_000

Send = Callable[[Sequence[NewJob]], Awaitable[list[EnqueueResult]]]
Outcome = EnqueueResult | Exception
_Waiting = tuple[NewJob, asyncio.Future[EnqueueResult]]


async def send_apart(send: Send, jobs: Sequence[NewJob]) -> list[Outcome]:
    """Send jobs together. If they are refused, send the two halves, and so on, down to the job at fault: only that one
    is refused. Safe to repeat because a request id is queued once.

    Returns per job where it was placed, or why not. Raises `BrokerUnavailable`, which is no job's fault.
    """
    try:
        return list(await send(jobs))
    except BrokerUnavailable:
        raise
    except Exception as error:
        if len(jobs) == 1:
            return [error]
    middle = len(jobs) // 2
    return [*await send_apart(send, jobs[:middle]), *await send_apart(send, jobs[middle:])]


class Batcher:
    """One script call is under way at a time; calls that come meanwhile go together with the next.

    A lone call goes at once, in its caller's own task. A caller that is cancelled before its call is sent withdraws it.
    """

    def __init__(self, send: Send, patience: float) -> None:
        """`patience`: seconds that a call waits, and is sent, at most."""
        self._send = send
        self._patience = patience
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._under_way = False
        self._sender: asyncio.Task[None] | None = None

    async def add(self, job: NewJob) -> EnqueueResult:
        """Queue a job, or find the one that stands for it. Raises what `send` raises.

        Raises:
            BrokerUnavailable: Redis did not answer in time; `Overloaded` when too many calls wait already.
        """
        if self._under_way:
            return await self._join(job)
        self._under_way = True
        try:
            (placed,) = await self._send([job])
        finally:
            self._under_way = bool(self._waiting)
            if self._waiting:
                self._sender = asyncio.create_task(self._send_all(), name="enqueue")
        return placed

    async def close(self) -> None:
        """Wait until all is sent."""
        if self._sender is not None:
            await self._sender

    async def _join(self, job: NewJob) -> EnqueueResult:
        if len(self._waiting) >= MOST_WAITING or self._bytes + len(job.payload) > MOST_BYTES_WAITING:
            raise Overloaded(
                f"at most {MOST_WAITING:,} calls or {MOST_BYTES_WAITING:,} bytes may wait to be enqueued, and "
                f"{len(self._waiting):,} calls ({self._bytes:,} bytes) do: try again later"
            )
        answer: asyncio.Future[EnqueueResult] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, answer))
        self._bytes += len(job.payload)
        try:
            async with asyncio.timeout(self._patience):
                return await answer
        except TimeoutError as error:
            raise BrokerUnavailable(f"Redis did not answer within {self._patience:g} s") from error

    async def _send_all(self) -> None:
        while self._waiting:
            batch = self._next()
            if not batch:
                continue
            try:
                outcomes = await send_apart(self._send, [job for job, _ in batch])
            except Exception as error:
                outcomes = [error] * len(batch)
            for (_, answer), outcome in zip(batch, outcomes, strict=True):
                if answer.done():
                    continue
                if isinstance(outcome, EnqueueResult):
                    answer.set_result(outcome)
                else:
                    answer.set_exception(outcome)
        self._under_way, self._sender = False, None

    def _next(self) -> list[_Waiting]:
        """The next calls whose callers still wait."""
        batch: list[_Waiting] = []
        size = 0
        while self._waiting and len(batch) < MOST and size < MOST_BYTES:
            job, answer = self._waiting.popleft()
            self._bytes -= len(job.payload)
            if not answer.done():
                batch.append((job, answer))
                size += len(job.payload)
        return batch
