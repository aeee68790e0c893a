"""Jobs that write what they do to files of their own, so that a checker needs to trust nobody."""

import asyncio
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

from worker import Context, Retry, RetryPolicy, job

SIGN_OF_LIFE = 0.1
SIGN_OF_STEADY_LIFE = 0.01


WORKER = os.getppid() if multiprocessing.parent_process() else os.getpid()


def note(ctx: Context, event: str) -> None:
    """Append one line to this process's file; the write is whole, or not there."""
    line = {"id": ctx.job_id, "try": ctx.try_number, "event": event, "worker": WORKER, "at": time.monotonic()}
    path = Path(os.environ["CHAOS_EFFECTS"]) / f"{os.getpid()}.jsonl"
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(handle, json.dumps(line).encode() + b"\n")
    finally:
        os.close(handle)


def done(ctx: Context) -> dict[str, Any]:
    note(ctx, "end")
    return {"try": ctx.try_number, "worker": WORKER}


@job()
async def quick(ctx: Context) -> dict[str, Any]:
    note(ctx, "start")
    return done(ctx)


@job()
async def sleeper(ctx: Context) -> dict[str, Any]:
    note(ctx, "start")
    until = time.monotonic() + 1
    while time.monotonic() < until:
        await asyncio.sleep(SIGN_OF_LIFE)
        note(ctx, "alive")
    return done(ctx)


@job()
async def steady(ctx: Context) -> dict[str, Any]:
    """Half a second of life, noted often enough to see when it ends."""
    return await live_for(ctx, 0.5)


@job()
async def marathon(ctx: Context) -> dict[str, Any]:
    """The same, for longer than a lease."""
    return await live_for(ctx, 5.0)


async def live_for(ctx: Context, seconds: float) -> dict[str, Any]:
    note(ctx, "start")
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            await asyncio.sleep(SIGN_OF_STEADY_LIFE)
            note(ctx, "alive")
    except asyncio.CancelledError:
        note(ctx, "stopped")
        raise
    return done(ctx)


@job()
async def killer(ctx: Context) -> None:
    """Take the worker along."""
    note(ctx, "start")
    await asyncio.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)


@job(max_tries=1000)
async def retrying(ctx: Context) -> dict[str, Any]:
    note(ctx, "start")
    if ctx.try_number < 3:
        note(ctx, "asks")
        raise Retry(delay=0.2)
    return done(ctx)


@job(max_tries=1000, retry=RetryPolicy(on=(ConnectionError,), delay=0.1, cap=0.2))
async def failing(ctx: Context) -> None:
    note(ctx, "start")
    await asyncio.sleep(0.05)
    if ctx.try_number < 2:
        note(ctx, "asks")
        raise ConnectionError("try again")
    note(ctx, "end")
    raise ValueError(f"try {ctx.try_number}")


@job()
def threaded(ctx: Context) -> dict[str, Any]:
    note(ctx, "start")
    time.sleep(0.1)
    return done(ctx)


@job(process=True)
def processed(ctx: Context) -> dict[str, Any]:
    note(ctx, "start")
    time.sleep(0.05)
    return done(ctx)


@job(process=True)
def crunching(ctx: Context) -> dict[str, Any]:
    """A second in a process of its own."""
    note(ctx, "start")
    for _ in range(10):
        time.sleep(0.1)
        note(ctx, "alive")
    return done(ctx)
