"""Waiting for jobs to end without polling: one subscription a process, shared by all who wait."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from worker.broker import keys
from worker.broker.pool import Pool, blocking_connection, unavailable_when_away

RECONNECT_DELAY = 0.5


class Ends:
    """Tells who waits for a job that it has ended. Opens its connection when the first one waits.

    A waiter must look the job up once it has subscribed, and again when it is told: messages carry nothing.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiters: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._pubsub: PubSub | None = None
        self._reader: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def watch(self, job_id: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set when the job ends, and also when messages may have been missed."""
        event = asyncio.Event()
        channel = keys.DONE + job_id
        async with self._lock:
            self._waiters[channel].add(event)
            if len(self._waiters[channel]) == 1:
                with unavailable_when_away():
                    await self._subscribe(channel)
        try:
            yield event
        finally:
            self._waiters[channel].discard(event)
            if not self._waiters[channel]:
                del self._waiters[channel]
                await asyncio.shield(self._unsubscribe(channel))

    async def close(self) -> None:
        """End the subscription."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        if self._pubsub is not None:
            pubsub, self._pubsub = self._pubsub, None
            await pubsub.aclose()
            await pubsub.connection_pool.disconnect()

    async def _subscribe(self, channel: str) -> None:
        if self._pubsub is None:
            self._pubsub = blocking_connection(self._pool).pubsub(ignore_subscribe_messages=True)
        await self._pubsub.subscribe(channel)
        if self._reader is None:
            self._reader = asyncio.create_task(self._read(), name="job ends")

    async def _unsubscribe(self, channel: str) -> None:
        async with self._lock:
            if channel not in self._waiters and self._pubsub is not None:
                try:
                    await self._pubsub.unsubscribe(channel)
                except (RedisError, OSError):
                    return  # the connection is gone, and the subscription with it

    async def _read(self) -> None:
        """Pass messages on for ever; after a lost connection everybody looks for himself."""
        while self._pubsub is not None:
            try:
                message = await self._pubsub.get_message(timeout=None)
                if message is not None and message["type"] == "message":
                    self._tell(message["channel"].decode())
            except RuntimeError:
                await asyncio.sleep(RECONNECT_DELAY)  # nothing is subscribed at the moment
            except (RedisError, OSError):
                for channel in list(self._waiters):
                    self._tell(channel)
                await asyncio.sleep(RECONNECT_DELAY)

    def _tell(self, channel: str) -> None:
        for event in self._waiters.get(channel, ()):
            event.set()
