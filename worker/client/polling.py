"""Waiting for an end: poll, wait for news of it or for a second, poll again."""

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from worker.broker.budget import Budget
from worker.core.errors import BrokerUnavailable

T = TypeVar("T")

RECHECK = 1.0  # plain arq workers announce no end
LAST_LOOK = 0.5  # seconds that a look may take when the time of who waits is over


async def poll_until_ended(
    look: Callable[[], Awaitable[T]],
    has_ended: Callable[[T], bool],
    news: asyncio.Event,
    budget: Budget,
    timeout: float | None,
) -> T:
    """What `look` sees at the end, or at the end of the time (`timeout` seconds); `news` is set when it may have come.

    Raises:
        BrokerUnavailable: Redis did not answer before the time was over, or never.
        Exception: what `look` raises.
    """
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    seen: T | None = None
    while True:
        left = max(0.0, deadline - time.monotonic())
        try:
            seen = await budget.persist(look, min(budget.seconds, left + LAST_LOOK))
        except BrokerUnavailable:
            if seen is None or time.monotonic() < deadline:
                raise
            return seen
        if has_ended(seen) or not await _another_look(news, deadline):
            return seen


async def _another_look(news: asyncio.Event, deadline: float) -> bool:
    """Wait for news of an end; False when the time is over."""
    left = min(RECHECK, deadline - time.monotonic())
    if left <= 0:
        return False
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(left):
            await news.wait()
    news.clear()
    return True
