"""Taskiq on Redis streams, which acknowledges after the job, with uvloop and results kept."""

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import uvloop
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.peers import command, meter

URL = os.environ["REDIS_URL"]
broker = RedisStreamBroker(URL).with_result_backend(RedisAsyncResultBackend(URL, result_ex_time=3600))


@broker.task
async def tick() -> None:
    meter.tick()


@broker.task
async def nap(seconds: float) -> None:
    await asyncio.sleep(seconds)
    meter.tick()


@broker.task
async def stamp(due: float) -> None:
    meter.stamp(due)


JOBS = {"tick": (tick, ()), "nap1": (nap, (0.001,)), "nap100": (nap, (0.1,))}


def worker():
    program = str(Path(sys.executable).with_name("taskiq"))
    concurrency = os.environ["BENCH_CONCURRENCY"]
    options = ["--workers", "1", "--max-async-tasks", concurrency, "--log-level", "WARNING"]
    os.execv(program, [program, "worker", "benchmarks.peers.taskiq:broker", *options])


@asynccontextmanager
async def producer():
    await broker.startup()

    async def enqueue(name, due=None, delay=0.0):
        task, arguments = JOBS[name] if due is None else (stamp, (due,))
        await task.kiq(*arguments)

    yield enqueue
    await broker.shutdown()


if __name__ == "__main__":
    command.main("benchmarks.peers.taskiq", uvloop.run)
