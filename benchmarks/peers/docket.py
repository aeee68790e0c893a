"""Docket (the package pydocket)."""

import asyncio
import os
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import uvloop
from docket import Docket, Worker

from benchmarks.peers import command, meter


async def tick() -> None:
    meter.tick()


async def nap(seconds: float) -> None:
    await asyncio.sleep(seconds)
    meter.tick()


async def stamp(due: float) -> None:
    meter.stamp(due)


JOBS = {"tick": (tick, ()), "nap1": (nap, (0.001,)), "nap100": (nap, (0.1,))}


def opened() -> Docket:
    return Docket(name="bench", url=os.environ["REDIS_URL"] + "?max_connections=400")


async def worker():
    async with opened() as docket:
        for function in (tick, nap, stamp):
            docket.register(function)
        async with Worker(docket, concurrency=int(os.environ["BENCH_CONCURRENCY"])) as serving:
            await serving.run_forever()


@asynccontextmanager
async def producer():
    async with opened() as docket:

        async def enqueue(name, due=None, delay=0.0):
            function, arguments = JOBS[name] if due is None else (stamp, (due,))
            when = datetime.fromtimestamp(due, UTC) if delay else None
            await docket.add(function, when=when)(*arguments)

        yield enqueue


if __name__ == "__main__":
    command.main("benchmarks.peers.docket", uvloop.run)
