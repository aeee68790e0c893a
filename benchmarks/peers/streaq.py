"""Streaq, results kept."""

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import uvloop
from streaq import Worker

from benchmarks.peers import command, meter

streaq_worker = Worker(redis_url=os.environ["REDIS_URL"], concurrency=int(os.environ.get("BENCH_CONCURRENCY", "100")))


@streaq_worker.task
async def tick() -> None:
    meter.tick()


@streaq_worker.task
async def nap(seconds: float) -> None:
    await asyncio.sleep(seconds)
    meter.tick()


@streaq_worker.task
async def stamp(due: float) -> None:
    meter.stamp(due)


JOBS = {"tick": (tick, ()), "nap1": (nap, (0.001,)), "nap100": (nap, (0.1,))}


def worker():
    program = str(Path(sys.executable).with_name("streaq"))
    os.execv(program, [program, "run", "benchmarks.peers.streaq:streaq_worker"])


@asynccontextmanager
async def producer():
    async with streaq_worker:

        async def enqueue(name, due=None, delay=0.0):
            task, arguments = JOBS[name] if due is None else (stamp, (due,))
            made = task.enqueue(*arguments)
            await (made.start(delay=timedelta(seconds=delay)) if delay else made)

        yield enqueue


async def bulk(name, count):
    task, arguments = JOBS[name]
    for _ in range(count // 1000):
        await streaq_worker.enqueue_many([task.enqueue(*arguments) for _ in range(1000)])


if __name__ == "__main__":
    command.main("benchmarks.peers.streaq", uvloop.run)
