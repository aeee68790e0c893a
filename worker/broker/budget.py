"""How long a client may take for one request to Redis, all tries together."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from worker.core.errors import BrokerUnavailable

T = TypeVar("T")

PAUSES = (0.05, 0.25)  # seconds between tries: a dropped connection is replaced at once, a restart takes longer


class Budget:
    """`seconds` for each request. A try that is given up closes its connection, whose answer may still come."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def ask(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask once.

        Raises:
            BrokerUnavailable: no answer came in time, or `ask` raised it.
        """
        return await _try(ask, self.seconds, self.seconds)

    async def persist(self, ask: Callable[[], Awaitable[T]], seconds: float | None = None) -> T:
        """Ask three times before giving up, for `seconds` at most (None: the whole budget); the first tries get half of
        what is left. What is asked must be safe to repeat. Raises as `ask`."""
        whole = self.seconds if seconds is None else seconds
        end = time.monotonic() + whole
        for pause in PAUSES:
            try:
                return await _try(ask, (end - time.monotonic()) / 2, whole)
            except BrokerUnavailable:
                await asyncio.sleep(pause)
        return await _try(ask, end - time.monotonic(), whole)


async def _try(ask: Callable[[], Awaitable[T]], seconds: float, whole: float) -> T:
    """Ask for so many seconds, of the `whole` that the caller waits."""
    try:
        async with asyncio.timeout(seconds):
            return await ask()
    except TimeoutError as error:
        raise BrokerUnavailable(f"Redis did not answer within {max(whole, 0):.3g} s") from error
