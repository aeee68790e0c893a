"""The jobs of the soak: of every kind that keeps something somewhere while it lives, and one that counts it."""

import asyncio
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from worker import ConcurrencyLimit, Context, Permanent, Priority, RateLimit, Retry, job

KEEP = 10.0  # seconds, of whatever is kept for a time


@job()
async def quick(n: int) -> int:
    return n


@job()
async def steps(ctx: Context) -> None:
    for step in range(5):
        ctx.progress(step, 5)
        await asyncio.sleep(0.03)


@job()
def threaded() -> None:
    time.sleep(0.002)


@job(max_tries=3)
async def second_time(ctx: Context) -> int:
    if ctx.try_number < 2:
        raise Retry(delay=0.2)
    return ctx.try_number


@job()
async def failing() -> None:
    raise Permanent("as it is meant to")


@job(limits=[ConcurrencyLimit(5), RateLimit("1000/s")])
async def limited() -> None:
    await asyncio.sleep(0.001)


@job(timeout=0.1)
async def too_long() -> None:
    await asyncio.sleep(5)


@job()
async def once(ctx: Context, key: int) -> Any:
    async def step() -> int:
        return key

    return await ctx.once(f"soak:{key}", step, keep=KEEP)


@job()
async def added(values: list[int]) -> int:
    return sum(values)


@job()
async def census() -> dict[str, int]:
    """What can only be counted from inside."""
    return {"tasks": len(asyncio.all_tasks()), "threads": threading.active_count()}


def some(chance: random.Random) -> Any:
    """A call of some kind."""
    makers: list[Callable[[], Any]] = [
        lambda: quick.call(chance.randrange(1000)),
        steps.call,
        threaded.call,
        second_time.call,
        failing.call,
        limited.call,
        too_long.call,
        lambda: once.call(chance.randrange(10**6)),
        lambda: quick.options(delay=chance.uniform(0, 3)).call(1),
        lambda: quick.options(unique_for=KEEP).call(chance.randrange(10**6)),
        lambda: quick.options(debounce=0.5, unique_key=str(chance.randrange(200))).call(2),
        lambda: quick.options(throttle=1, unique_key=str(chance.randrange(200))).call(3),
        lambda: quick.options(expires_in=0.001, delay=0.1, priority=Priority.LOW).call(4),
    ]
    return chance.choices(makers, [80, 3, 5, 3, 2, 5, 1, 2, 5, 2, 2, 2, 1])[0]()
