"""Waiting suspects, counted so that workers can be started for them; how they are parked and taken: `suspects.lua`."""

from collections import Counter
from collections.abc import Container

from redis.asyncio import Redis

from worker.broker.availability import nothing_of_another_type, unavailable_when_away
from worker.core import keys

MOST_LOOKED_AT = 1000
STARTS_WITHIN_MS = 3000  # how long a process may take to start before another worker starts one in its place


class SuspectQueues:
    """Every method raises `BrokerUnavailable` when Redis cannot serve it."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def groups(self, queues: Container[str] | None) -> dict[str, int]:
        """How many groups of suspects wait in these queues (None: in all, paused ones never), by their sorted sets."""
        with unavailable_when_away(), nothing_of_another_type():
            members = await self._redis.execute_command("SMEMBERS", keys.SUSPECTS)
            found = [key.decode(errors="replace") for key in members]
            served = [key for key in found if queues is None or keys.parse_queue_key(key)[0] in queues]
            if not served:
                return {}
            pipe = self._redis.pipeline(transaction=False)
            for key in served:
                pipe.zrange(keys.SUSPECTS_IN + key, 0, MOST_LOOKED_AT - 1, withscores=True)
                pipe.sismember(keys.PAUSED, keys.queue_key(keys.parse_queue_key(key)[0]))
            answers = await pipe.execute()
            waiting = zip(served, answers[::2], answers[1::2], strict=True)
            return {key: _groups([size for _, size in parked]) for key, parked, paused in waiting if not paused}
        return {}

    async def reserve(self, queue_key: str, group: int) -> bool:
        """Reserve the start of a worker for a group, by its number in the queue; False when another just did so."""
        with unavailable_when_away():
            key = f"{keys.ISOLATING}{group}:{queue_key}"
            return bool(await self._redis.execute_command("SET", key, 1, "NX", "PX", STARTS_WITHIN_MS))


def _groups(sizes: list[float]) -> int:
    """How many groups jobs form; `sizes`: how many may run together with each of them."""
    together = Counter(int(max(1, min(size, keys.SUSPECTS_TOGETHER))) for size in sizes)
    return sum(-(-count // size) for size, count in together.items())
