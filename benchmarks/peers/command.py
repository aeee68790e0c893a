"""The command line of every peer: a table of coroutines or functions by their names."""

import asyncio
import importlib
import inspect
import random
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

AT_ONCE = 50


async def _enqueue(peer: Any, way: str, job: str, count: int) -> float:
    async with peer.producer() as enqueue:
        started = time.perf_counter()
        if way == "one":
            for _ in range(count):
                await enqueue(job)
        elif way == "concurrent":
            for _ in range(count // AT_ONCE):
                await asyncio.gather(*(enqueue(job) for _ in range(AT_ONCE)))
        else:
            await peer.bulk(job, count)
        return time.perf_counter() - started


async def _chord(peer: Any, count: int) -> None:
    async with peer.producer():
        sys.stdout.write(f"{time.time()}\n")
        await peer.chord(count)


async def _stamps(peer: Any, count: int, delay: float) -> None:
    """With a delay, all at once, due at random times around it; without, one after the other with pauses."""
    async with peer.producer() as enqueue:
        if delay:
            waits = [delay * random.uniform(0.5, 1.5) for _ in range(count)]
            await asyncio.gather(*(enqueue("stamp", time.time() + wait, delay=wait) for wait in waits))
            return
        await enqueue("tick")  # so that all have connected
        for _ in range(count):
            await asyncio.sleep(random.uniform(0.02, 0.06))
            await enqueue("stamp", time.time())


def main(module: str, run: Callable[[Any], Any] = asyncio.run) -> None:
    """Run what is asked for; the module has `worker()`, `producer()`, maybe `bulk(job, count)` and `chord(count)`."""
    peer = importlib.import_module(module)
    what, *rest = sys.argv[1:]
    if what == "worker":
        served = peer.worker()
        if inspect.isawaitable(served):
            run(_wait(served))
    elif what == "enqueue":
        way, job, count = rest
        sys.stdout.write(f"{run(_enqueue(peer, way, job, int(count)))}\n")
    elif what == "timed":
        sys.stdout.write(f"{time.time()}\n")
        way, job, count = rest
        run(_enqueue(peer, way, job, int(count)))
    elif what == "chord":
        run(_chord(peer, int(rest[0])))
    elif what == "stamps":
        run(_stamps(peer, int(rest[0]), float(rest[1])))


async def _wait(served: Awaitable[Any]) -> None:
    await served
