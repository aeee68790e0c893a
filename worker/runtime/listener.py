"""How a worker hears of new work: it blocks in Redis until a token comes, on a connection of its own."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from worker.broker.opening import blocking_connection
from worker.broker.pool import Pool
from worker.broker.queue_store import QueueStore
from worker.core.errors import BrokerUnavailable
from worker.execution.attempt import Attempt
from worker.runtime.actions import Wait
from worker.runtime.events import BreakOffTried, Waited, WaitFailed
from worker.runtime.fetcher import Claiming

BLOCK_SECONDS = 5.0
NOT_TOLD = 0  # instead of a client's id, by servers that do not let everybody use CLIENT
AWAY = (BrokerUnavailable, RedisError, OSError)


class Listener:
    """Waits for tokens of the served queues, one wait after the other."""

    def __init__(self, queue_store: QueueStore, claiming: Claiming, pool: Pool, lease: float) -> None:
        """`lease`, in seconds, counts for what is handed over from the start of the wait, which lasts a third of it."""
        self._queue_store = queue_store
        self._claiming = claiming
        self._connection = blocking_connection(pool)
        self._block = min(BLOCK_SECONDS, lease / 3)
        self.client_id: int | None = None
        self._has_tried = asyncio.Event()  # to connect

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.aclose()

    async def wait(self, wait: Wait, tell: Callable[[Waited[Attempt] | WaitFailed], None]) -> None:
        """Wait for a token, with the claim behind it, if there is one."""
        try:
            if self.client_id is None:
                self._has_tried.clear()
                self.client_id = await _client_id(self._connection)
                self._has_tried.set()
            request = None if wait.ask is None else self._claiming.request(wait.ask)
            asked_at = time.monotonic()
            async with asyncio.timeout(2 * BLOCK_SECONDS):
                token, claim = await self._queue_store.wait_for_token(
                    self._connection, self._claiming.wake_keys, self._block, request
                )
        except AWAY:
            self.client_id = None
            self._has_tried.set()
            tell(WaitFailed(wait, time.monotonic()))
        else:
            brought = None if claim is None else self._claiming.brought(claim, asked_at)
            tell(Waited(wait, token, brought, time.monotonic()))

    async def break_off(self, tell: Callable[[BreakOffTried], None]) -> None:
        """End the wait that is under way; one that still connects, as soon as it has."""
        try:
            if self.client_id is None:
                await self._has_tried.wait()
            if self.client_id:
                with suppress(BrokerUnavailable):
                    await self._queue_store.break_off(self.client_id)
        except ResponseError:  # not allowed here: waits end by themselves
            self.client_id = NOT_TOLD
        tell(BreakOffTried(again=self.client_id != NOT_TOLD, at=time.monotonic()))

    async def pass_on(self, token: str) -> None:
        """Put a token back for others. Where that fails they look by themselves, every half second."""
        with suppress(*AWAY):
            await self._queue_store.pass_on(token)


async def _client_id(redis: Redis) -> int:
    try:
        return int(await redis.execute_command("CLIENT ID"))
    except ResponseError:
        return NOT_TOLD
