"""How a worker hears: tokens for new work, and messages meant for it alone. Both block in Redis, nothing polls."""

import asyncio
from collections.abc import Callable, Sequence

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

from worker.broker.pool import blocking_connection

BLOCK_SECONDS = 5
RECONNECT_DELAY = 0.5


class Listener:
    """Takes values from lists and hands each to a callback; keeps at it through lost connections."""

    def __init__(self, pool: BlockingConnectionPool, key_names: Sequence[str], heard: Callable[[str], bool]) -> None:
        """`heard` returns False to put the value back for another listener."""
        self._pool = pool
        self._keys = list(key_names)
        self._heard = heard
        self.ready = asyncio.Event()
        self.ready.set()

    def listen_to(self, key_names: Sequence[str]) -> None:
        """Take values from these lists from the next wait on."""
        self._keys = list(key_names)

    async def listen(self) -> None:
        """Listen until cancelled, while `ready` is set."""
        redis = blocking_connection(self._pool)
        try:
            while True:
                await self.ready.wait()
                try:
                    await self._take_one(redis)
                except (RedisError, OSError):
                    await asyncio.sleep(RECONNECT_DELAY)
        finally:
            await redis.aclose(close_connection_pool=True)

    async def _take_one(self, redis: Redis) -> None:
        async with asyncio.timeout(2 * BLOCK_SECONDS):
            taken = await redis.execute_command("BLPOP", *self._keys, BLOCK_SECONDS)
        if taken is not None and not self._heard(taken[1].decode()):
            await redis.execute_command("RPUSH", taken[0], taken[1])
