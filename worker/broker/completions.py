"""Waiting for jobs to end without polling: one subscription a process, shared by all who wait."""

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis.exceptions import RedisError

from worker.broker.opening import blocking_pool
from worker.broker.pool import Pool, QuickConnection
from worker.core import keys
from worker.core.errors import Overloaded

RECONNECT_DELAY = 0.5
PING_EVERY = 2.0  # seconds without a message; another such pause without an answer, and the connection is given up
CHANNELS_AT_ONCE = 500
MOST_WAITERS = 10_000


class Completions:
    """Notifies those who wait for a job that it has ended. Connects for the first of them, and keeps the connection.

    A waiter looks the job up at once, and again whenever it is notified: messages carry nothing, as Pub/Sub delivers at
    most once. It never waits for Redis here: subscriptions are written without waiting, and one task reads all answers.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiters: dict[str, set[asyncio.Event]] = {}
        self._count = 0
        self._connection: QuickConnection | None = None
        self._listener: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._count

    @contextmanager
    def watch(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when the job ends, when the subscription is confirmed, and when messages may have been
        missed.

        Raises:
            Overloaded: as many wait as may.
        """
        if self._count >= MOST_WAITERS:
            raise Overloaded(f"at most {MOST_WAITERS:,} requests may wait for jobs to end: try again later")
        event, channel = asyncio.Event(), keys.DONE + job_id
        self._count += 1
        self._waiters.setdefault(channel, set()).add(event)
        if len(self._waiters[channel]) == 1:
            self._post("SUBSCRIBE", channel)
        try:
            yield event
        finally:
            self._count -= 1
            self._waiters[channel].discard(event)
            if not self._waiters[channel]:
                del self._waiters[channel]
                self._post("UNSUBSCRIBE", channel)

    async def close(self) -> None:
        """End the subscription."""
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)

    def _post(self, command: str, channel: str) -> None:
        if self._connection is not None:
            self._connection.post(command, channel)
        elif self._listener is None:
            self._listener = asyncio.create_task(self._listen(), name="job ends")

    async def _listen(self) -> None:
        """Pass messages on until nobody waits any more and the connection is gone."""
        while self._waiters:
            with contextlib.suppress(RedisError, OSError):
                await self._hear()
            for channel in list(self._waiters):  # messages may have been missed: all look their job up again
                self._tell(channel)
            await asyncio.sleep(RECONNECT_DELAY)
        self._listener = None

    async def _hear(self) -> None:
        pool = blocking_pool(self._pool)
        connection = await pool.get_connection()
        try:
            self._connection = connection
            channels = list(self._waiters)
            for start in range(0, len(channels), CHANNELS_AT_ONCE):
                connection.post("SUBSCRIBE", *channels[start : start + CHANNELS_AT_ONCE])
            is_asked = False
            while not connection.is_stale:
                message = await connection.read_response(timeout=PING_EVERY)
                if message is not None:
                    is_asked = False
                    self._take(message)
                elif is_asked:
                    return  # the peer has vanished without closing the connection
                else:
                    is_asked = True
                    connection.post("PING")
        finally:
            self._connection = None
            await connection.disconnect()

    def _take(self, message: Any) -> None:
        if isinstance(message, list) and message[0] in (b"message", b"subscribe"):
            self._tell(message[1].decode())

    def _tell(self, channel: str) -> None:
        for event in self._waiters.get(channel, ()):
            event.set()
