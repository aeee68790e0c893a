"""Calls to enqueue that come together, sent together."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from worker.broker.broker import NewJob

MOST = 500


class Batches:
    """One script call is under way at a time; what comes meanwhile goes together with the next.

    A lone call goes at once, in its caller's own task.
    """

    def __init__(self, send: Callable[[Sequence[NewJob]], Awaitable[list[bool]]]) -> None:
        self._send = send
        self._waiting: list[tuple[NewJob, asyncio.Future[bool]]] = []
        self._under_way = False
        self._sender: asyncio.Task[None] | None = None

    async def add(self, job: NewJob) -> bool:
        """Queue a job; False when another has its id. Raises what `send` raises."""
        if self._under_way:
            answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._waiting.append((job, answer))
            return await answer
        self._under_way = True
        try:
            (created,) = await self._send([job])
        finally:
            self._under_way = bool(self._waiting)
            if self._waiting:
                self._sender = asyncio.create_task(self._send_all(), name="enqueue")
        return created

    async def close(self) -> None:
        """Wait until all is sent."""
        if self._sender is not None:
            await self._sender

    async def _send_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            try:
                created = await self._send([job for job, _ in batch])
            except Exception as error:
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            for (_, answer), new in zip(batch, created, strict=True):
                if not answer.done():
                    answer.set_result(new)
        self._under_way, self._sender = False, None
