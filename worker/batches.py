"""Calls to enqueue that come together, sent together."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from worker.broker.broker import NewJob, Placed

MOST = 500


class Batches:
    """One script call is under way at a time; what comes meanwhile goes together with the next.

    A lone call goes at once, in its caller's own task.
    """

    def __init__(self, send: Callable[[Sequence[NewJob]], Awaitable[list[Placed]]]) -> None:
        self._send = send
        self._waiting: list[tuple[NewJob, asyncio.Future[Placed]]] = []
        self._under_way = False
        self._sender: asyncio.Task[None] | None = None

    async def add(self, job: NewJob) -> Placed:
        """Queue a job, or find the one that stands for it. Raises what `send` raises."""
        if self._under_way:
            answer: asyncio.Future[Placed] = asyncio.get_running_loop().create_future()
            self._waiting.append((job, answer))
            return await answer
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

    async def _send_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            try:
                all_placed = await self._send([job for job, _ in batch])
            except Exception as error:
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            for (_, answer), placed in zip(batch, all_placed, strict=True):
                if not answer.done():
                    answer.set_result(placed)
        self._under_way, self._sender = False, None
