"""How our cost grows: with the length of the queue, concurrency, processes, queues, and the size of payloads."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.measure import Bench, memory_of
from benchmarks.peers import embarq
from benchmarks.systems import OURS, REDIS_PORT
from worker import Client, registry
from worker.core import keys
from worker.dev import private_redis

PART = 20_000
PATIENCE = 180


@contextmanager
def worker(url: str, folder: Path, *arguments: str, **more: str) -> Iterator[psutil.Process]:
    environment = {**os.environ, "REDIS_URL": url, "EMBARQ_JOBS": "benchmarks.peers.embarq", **more}
    with (folder / "worker.log").open("ab") as log:
        command = [sys.executable, "-m", "worker.cli", "worker", *arguments]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(40)


async def left(client: Client, queues: list[str]) -> int:
    counts = await asyncio.gather(*(client.redis.zcard(keys.queue_key(queue)) for queue in queues))
    return int(sum(counts))


async def rate(client: Client, count: int, queues: list[str]) -> float:
    """Jobs a second while the queues shrink by `count`, after the first tenth."""
    full = await left(client, queues)
    marks: list[tuple[float, int]] = []
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        done = full - await left(client, queues)
        if done >= count // 10:
            marks.append((time.monotonic(), done))
        if done >= count:
            break
        await asyncio.sleep(0.02)
    (first, before), (last, after) = marks[0], marks[-1]
    return (after - before) / (last - first)


async def fill(client: Client, count: int, queues: list[str], payload: int = 0) -> None:
    registry.bind(client)
    for start in range(0, count, 10_000):
        queue = queues[start // 10_000 % len(queues)] if len(queues) > 1 else queues[0]
        bound = embarq.load.options(queue=queue)
        size = min(10_000, count - start)
        await client.enqueue_many(bound.call(data="x" * payload) for _ in range(size))


async def drained(url: str, folder: Path, queued: int, arguments: list[str], queues: list[str], payload: int) -> float:
    async with Client.open(url) as client:
        await fill(client, queued, queues, payload)
        with worker(url, folder, *arguments):
            return await rate(client, min(queued, 5 * PART) - 1, queues)


def one(title: str, queued: int, *arguments: str, queues: int = 1, payload: int = 0) -> str:
    names = ["default"] if queues == 1 else [f"q{number}" for number in range(queues)]
    served = [] if queues == 1 else ["-Q", ",".join(names)]
    with (
        tempfile.TemporaryDirectory(prefix="embarq-") as folder,
        private_redis(Path(folder) / "redis", port=REDIS_PORT) as url,
    ):
        found = asyncio.run(drained(url, Path(folder), queued, [*arguments, *served], names, payload))
    sys.stderr.write(f"{title}: {found:,.0f}/s\n")
    return f"| {title} | {found:,.0f} |"


def naps() -> str:
    """20,000 sleeps of 100 ms at 1,000 a time: 2.0 s would be ideal."""
    with (
        tempfile.TemporaryDirectory(prefix="embarq-") as folder,
        private_redis(Path(folder) / "redis", port=REDIS_PORT) as url,
    ):
        bench = Bench(OURS, url, Path(folder))
        took = bench.drained("nap100", 20_000, BENCH_CONCURRENCY=1000)["seconds"]
    return f"20,000 sleeps of 100 ms, 1,000 at once: {took:.2f} s (ideal: 2.00 s)."


async def memory(url: str, folder: Path) -> tuple[float, float]:
    """Megabytes of a worker after 20,000 and after 200,000 jobs."""
    resident = []
    async with Client.open(url) as client:
        with worker(url, folder) as process:
            for count in (20_000, 180_000):
                await fill(client, count, ["default"])
                while await left(client, ["default"]):
                    await asyncio.sleep(0.05)
                resident.append(memory_of(process))
    return resident[0], resident[1]


def report() -> str:
    """All series, as a table."""
    rows = ["| no-op jobs, one process at 100 unless said | jobs/s |", "|---|---:|"]
    rows += [one(f"{queued:,} jobs queued", queued) for queued in (10_000, 100_000, 1_000_000)]
    rows += [one(f"{n} at once", PART if n < 10 else 5 * PART, "-c", str(n)) for n in (1, 10, 100, 1000)]
    rows += [one(f"{n} processes", 5 * PART, "--processes", str(n)) for n in (1, 2, 4)]
    rows += [one(f"{n} queues", 5 * PART, queues=n) for n in (1, 10, 50)]
    rows += [one(f"payload of {n:,} bytes", PART, payload=n) for n in (100, 10_000, 100_000)]
    with (
        tempfile.TemporaryDirectory(prefix="embarq-") as folder,
        private_redis(Path(folder) / "redis", port=REDIS_PORT) as url,
    ):
        early, late = asyncio.run(memory(url, Path(folder)))
    return (
        "\n".join(rows)
        + f"\n\n{naps()}\n\nA worker after 20,000 jobs {early:.1f} MB, after 200,000 jobs {late:.1f} MB."
    )
