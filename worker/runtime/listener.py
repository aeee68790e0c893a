"""How a worker hears: tokens for new work, and messages meant for it alone. Both block in Redis, nothing polls."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from worker.broker.exchange import Claim, ClaimRequest
from worker.broker.opening import blocking_connection
from worker.broker.pool import Pool
from worker.broker.queue_store import Broker
from worker.core.errors import BrokerUnavailable

BLOCK_SECONDS = 5.0
RECONNECT_DELAY = 0.5
SETTLED_AFTER = 0.01
NOT_TOLD = 0  # instead of a client's id, by servers that do not let everybody use CLIENT
AWAY = (BrokerUnavailable, RedisError, OSError)


class Taker(Protocol):
    """Who is woken: the pump."""

    @property
    def has_room(self) -> bool:
        """Whether a job could start now."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs, and jobs are welcome."""
        ...

    def standing_claim(self) -> ClaimRequest | None:
        """A claim to leave in Redis, with a slot kept for it until `stood`; None when there is none to keep."""
        ...

    def stood(self, claim: Claim | None, leased_until: float) -> None:
        """Take what a standing claim brought (None: it was not made)."""
        ...

    def look(self) -> None:
        """Claim as soon as there is room: something is due."""
        ...


class Standby:
    """Waits for tokens of the served queues, one after the other, while `ready` is set.

    While nothing runs in the worker, a claim for one job stands in Redis behind the wait: the job comes with its token,
    a round trip sooner. A worker that runs jobs is only told, and claims when it gets to it: one of its jobs may block
    the loop, and would hold up what was handed over. A wait of the wrong kind is broken off.
    """

    def __init__(self, broker: Broker, pool: Pool, taker: Taker, lease: float) -> None:
        """`lease`, in seconds, counts for what is handed over from the start of the wait."""
        self._broker = broker
        self._pool = pool
        self._taker = taker
        self._lease = lease
        self._block = min(BLOCK_SECONDS, lease / 3)
        self._wake_keys: Sequence[str] = ()
        self._client_id: int | None = None
        self._waits = self._has_claim = False
        self._turn: asyncio.TimerHandle | None = None
        self._breaking_off: asyncio.Task[None] | None = None
        self.ready = asyncio.Event()
        self.ready.set()

    def serve(self, wake_keys: Sequence[str]) -> None:
        """Wait for tokens in these lists from the next wait on."""
        self._wake_keys = wake_keys

    def reconsider(self) -> None:
        """Jobs have started or ended, or the worker stops. If the wait is of the wrong kind now and still is in a
        moment, it is broken off."""
        if self._turn is None and self._is_wrong():
            self._turn = asyncio.get_running_loop().call_later(SETTLED_AFTER, self._change)

    async def run(self) -> None:
        """Wait until cancelled."""
        try:
            async with blocking_connection(self._pool) as redis:
                while True:
                    await self.ready.wait()
                    try:
                        await self._wait(redis)
                    except AWAY:
                        self._client_id = None
                        await asyncio.sleep(RECONNECT_DELAY)
        finally:
            for pending in (self._turn, self._breaking_off):
                if pending is not None:
                    pending.cancel()

    async def _wait(self, redis: Redis) -> None:
        if self._client_id is None:
            self._client_id = await _client_id(redis)
        claim = self._taker.standing_claim()
        token = claimed = None
        asked_at = time.monotonic()
        self._waits, self._has_claim = True, claim is not None
        self.reconsider()
        try:
            async with asyncio.timeout(2 * BLOCK_SECONDS):
                token, claimed = await self._broker.wait_for_token(redis, self._wake_keys, self._block, claim)
        finally:
            self._waits = self._has_claim = False
            if claim is not None:
                self._taker.stood(claimed, asked_at + self._lease)
        if token is None or claimed is not None:
            return
        if self._taker.has_room:
            self._taker.look()
        else:  # others are to hear it; this worker again when it has room
            self.ready.clear()
            await redis.execute_command("RPUSH", token, "1")

    def _is_wrong(self) -> bool:
        return self._waits and self._has_claim != self._taker.is_idle

    def _change(self) -> None:
        self._turn = None
        if self._is_wrong() and self._breaking_off is None:
            self._breaking_off = asyncio.create_task(self._break_off(), name="break off")

    async def _break_off(self) -> None:
        try:
            while self._is_wrong() and self._client_id:
                with contextlib.suppress(BrokerUnavailable):
                    if await self._broker.break_off(self._client_id):
                        return
                await asyncio.sleep(SETTLED_AFTER)
        except ResponseError:  # not allowed here: the wait ends by itself
            self._client_id = NOT_TOLD
        finally:
            self._breaking_off = None


async def _client_id(redis: Redis) -> int:
    try:
        return int(await redis.execute_command("CLIENT ID"))
    except ResponseError:
        return NOT_TOLD


async def keep_reading(pool: Pool, key: str, heard: Callable[[str], None]) -> None:
    """Take values from a list and hand each to a callback; keeps at it through lost connections."""
    async with blocking_connection(pool) as redis:
        while True:
            try:
                async with asyncio.timeout(2 * BLOCK_SECONDS):
                    taken = await redis.execute_command("BLPOP", key, BLOCK_SECONDS)
                if taken is not None:
                    heard(taken[1].decode(errors="replace"))
            except AWAY:
                await asyncio.sleep(RECONNECT_DELAY)
