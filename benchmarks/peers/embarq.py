"""Ours, with everything on that is on by default."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from benchmarks.peers import command, meter
from worker import Client, JobDefinition, job, registry
from worker.core import workflow_graph as workflows


@job()
async def tick() -> None:
    meter.tick()


@job()
async def nap(seconds: float) -> None:
    await asyncio.sleep(seconds)
    meter.tick()


@job()
async def load(data: str) -> None:
    pass


@job()
async def number(n: int) -> int:
    return n


@job()
async def total(numbers: list[int]) -> None:
    meter.called(sum(numbers))


@job()
async def stamp(due: float) -> None:
    meter.stamp(due)


JOBS: dict[str, tuple[JobDefinition[..., None], dict[str, Any]]] = {
    "tick": (tick, {}),
    "nap1": (nap, {"seconds": 0.001}),
    "nap100": (nap, {"seconds": 0.1}),
}


def worker() -> None:
    os.execv(sys.executable, [sys.executable, "-m", "worker.cli", "worker", "-c", os.environ["BENCH_CONCURRENCY"]])


@asynccontextmanager
async def producer() -> AsyncIterator[Any]:
    async with Client.open(os.environ["REDIS_URL"]) as client:
        registry.bind(client)

        async def enqueue(name: str, due: float | None = None, delay: float = 0.0) -> None:
            if due is not None:
                if delay:
                    await stamp.options(run_at=datetime.fromtimestamp(due, UTC)).enqueue(due)
                else:
                    await stamp.enqueue(due)
            else:
                definition, arguments = JOBS[name]
                await definition.enqueue(**arguments)

        yield enqueue


async def chord(count: int) -> None:
    await workflows.chord((number.s(n) for n in range(count)), total.s()).enqueue()


async def bulk(name: str, count: int) -> None:
    definition, arguments = JOBS[name]
    client: Any = registry.producer
    await client.enqueue_many(definition.call(**arguments) for _ in range(count))


if __name__ == "__main__":
    import uvloop

    command.main("__main__", uvloop.run)  # importing it again would register its jobs twice
