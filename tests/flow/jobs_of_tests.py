"""Jobs for worker processes of the tests; effects go to the Redis list named by an argument."""

import asyncio
import os
import time

from redis.asyncio import Redis

from worker import ConcurrencyLimit, Context, RateLimit, job


async def _note(where: str, *values: object) -> None:
    async with Redis.from_url(os.environ["REDIS_URL"]) as redis:
        await redis.rpush(where, " ".join(str(value) for value in values))


@job(timeout=7200)
async def hold(ctx: Context, where: str, seconds: float) -> int:
    """Note each start with its process, wait, return the try."""
    await _note(where, "start", os.getpid(), ctx.try_number, time.time())
    await asyncio.sleep(seconds)
    await _note(where, "end", os.getpid(), ctx.try_number, time.time())
    return ctx.try_number


ALLOWED, PERIOD = 100, 4.0


@job(limits=[RateLimit(f"{ALLOWED}/{PERIOD:.0f}s")])
async def limited(n: int) -> int:
    """One of many that may start so often only."""
    return n


@job(limits=[ConcurrencyLimit(3)])
async def three_at_once(ctx: Context, where: str, seconds: float) -> None:
    """Note when it begins and ends."""
    await _note(where, "start", ctx.job_id, ctx.try_number, time.time())
    await asyncio.sleep(seconds)
    await _note(where, "end", ctx.job_id, ctx.try_number, time.time())


@job()
async def stamped(name: str) -> str:
    """A run of a schedule."""
    return name
