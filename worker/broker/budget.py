"""How long a client may take to ask Redis something, all its tries together."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from worker.errors import BrokerUnavailable

T = TypeVar("T")

PAUSES = (0.05, 0.25)  # between tries, in seconds


class Budget:
    """`seconds` for each question. A try that is given up takes its connection with it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def ask(self, ask: Callable[[], Awaitable[T]], seconds: float | None = None) -> T:
        """Ask once, for so long at most (None: the whole budget).

        Raises:
            BrokerUnavailable: no answer came in time, or `ask` raised it.
        """
        limit = self.seconds if seconds is None else seconds
        try:
            async with asyncio.timeout(limit):
                return await ask()
        except TimeoutError as error:
            raise BrokerUnavailable(f"Redis did not answer within {max(limit, 0):.3g} s") from error

    async def persist(self, ask: Callable[[], Awaitable[T]], seconds: float | None = None) -> T:
        """Ask three times before giving up; the first tries get half of what is left. What is asked must be safe to
        repeat. Raises as `ask`."""
        end = time.monotonic() + (self.seconds if seconds is None else seconds)
        for pause in PAUSES:
            with contextlib.suppress(BrokerUnavailable):
                return await self.ask(ask, (end - time.monotonic()) / 2)
            await asyncio.sleep(pause)
        return await self.ask(ask, end - time.monotonic())
