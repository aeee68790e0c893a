"""Jobs for worker processes of the tests; effects go to the Redis list named by an argument."""

import asyncio
import ctypes
import os
import signal
import time

import redis
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


def _note_now(where: str, *values: object) -> None:
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        client.rpush(where, " ".join(str(value) for value in values))


@job(timeout=7200)
def deaf(where: str, seconds: float) -> None:
    """A thread in C."""
    _note_now(where, "start", os.getpid(), time.time())
    time.sleep(seconds)


@job(timeout=7200)
def tick(folder: str) -> None:
    """Swallows whatever is thrown in, and notes the time, for ever."""
    with open(os.path.join(folder, str(os.getpid())), "a") as file:
        while True:
            try:
                file.write(f"{time.time()}\n")
                file.flush()
                time.sleep(0.001)
            except BaseException:  # noqa: S112
                continue


@job(timeout=7200)
def read_fifo(where: str, seconds: float) -> None:
    """A thread in C for ever: nobody writes."""
    path = os.path.join(os.environ["EMBARQ_DATA_DIR"], "fifo")
    os.mkfifo(path)
    _note_now(where, "start", os.getpid(), time.time())
    with open(path) as fifo:
        fifo.read()


@job(timeout=7200)
async def deaf_executor(where: str, seconds: float) -> None:
    """A coroutine that waits for a thread in C, which goes on without it."""
    await _note(where, "start", os.getpid(), time.time())
    await asyncio.to_thread(time.sleep, seconds)


@job(timeout=7200)
async def block_loop(where: str, seconds: float) -> None:
    """A coroutine in C."""
    await _note(where, "start", os.getpid(), time.time())
    time.sleep(seconds)  # noqa: ASYNC251


@job(timeout=7200)
async def hold_lock_at_stop(ctx: Context, where: str, seconds: float) -> None:
    """A call into C that keeps the interpreter's lock, once the worker stops."""
    await _note(where, "start", os.getpid(), time.time())
    await ctx.stopping.wait()
    await asyncio.sleep(0.3)
    ctypes.PyDLL(None).sleep(int(seconds))


@job(timeout=7200)
async def hold_lock(where: str, seconds: float) -> None:
    """A call into C that keeps the interpreter's lock."""
    await _note(where, "start", os.getpid(), time.time())
    ctypes.PyDLL(None).sleep(int(seconds))


@job(process=True, timeout=7200)
def crunch(where: str, seconds: float) -> str:
    """A job in a process."""
    _note_now(where, "start", os.getpid(), time.time())
    time.sleep(seconds)
    return "done"


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


@job(timeout=7200)
async def kill_worker(after: float) -> None:
    """Kill the process that runs it."""
    await asyncio.sleep(after)
    os.kill(os.getpid(), signal.SIGKILL)
