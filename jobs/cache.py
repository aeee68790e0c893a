"""Values that are expensive to compute, kept in Redis for a time."""

from dataclasses import dataclass
from typing import Any

import msgspec
from redis.asyncio import Redis

from worker import EmbarqError


@dataclass(frozen=True, slots=True)
class Cache:
    """A cache under keys of its own. Without Redis each use raises an error."""

    redis: Redis | None

    async def put(self, name: str, value: Any, *, keep: float) -> None:
        """Keep a JSON value for `keep` seconds."""
        await self._redis.set(f"cache:{name}", msgspec.json.encode(value), px=int(keep * 1000))

    async def get(self, name: str) -> Any:
        """The value, or None when it is not there."""
        found: bytes | None = await self._redis.get(f"cache:{name}")
        return None if found is None else msgspec.json.decode(found)

    @property
    def _redis(self) -> Redis:
        if self.redis is None:
            raise EmbarqError("REDIS_URL must be set for the cache")
        return self.redis
