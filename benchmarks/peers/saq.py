"""SAQ with uvloop, results kept."""

import asyncio
import os
from contextlib import asynccontextmanager

import uvloop
from saq import Queue, Worker

from benchmarks.peers import command, meter

queue = Queue.from_url(os.environ["REDIS_URL"])


async def tick(ctx):
    meter.tick()


async def nap(ctx, *, seconds):
    await asyncio.sleep(seconds)
    meter.tick()


async def stamp(ctx, *, due):
    meter.stamp(due)


JOBS = {"tick": ("tick", {}), "nap1": ("nap", {"seconds": 0.001}), "nap100": ("nap", {"seconds": 0.1})}


async def worker():
    await queue.connect()
    await Worker(queue, [tick, nap, stamp], concurrency=int(os.environ["BENCH_CONCURRENCY"])).start()


@asynccontextmanager
async def producer():
    await queue.connect()

    async def enqueue(name, due=None, delay=0.0):
        function, arguments = JOBS[name] if due is None else ("stamp", {"due": due})
        await queue.enqueue(function, ttl=3600, timeout=900, **arguments)

    yield enqueue
    await queue.disconnect()


if __name__ == "__main__":
    command.main("benchmarks.peers.saq", uvloop.run)
