"""Jobs for worker processes of the tests; effects go to the Redis list named by an argument."""

import asyncio
import os
import time

from redis.asyncio import Redis

from worker import Context, job


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
