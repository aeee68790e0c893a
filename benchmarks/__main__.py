"""Idle pick-up, accuracy of deferred jobs, and throughput: ours and plain arq in turn, on one private Redis.

Each round starts a fresh Redis and one worker process at concurrency 100. Figures are medians over the rounds;
times are in milliseconds. Both jobs and clients read the same machine's clock.
"""

import asyncio
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psutil
from arq.jobs import Job as ArqJob

from worker import Client
from worker.broker import keys
from worker.client import arq_deserializer
from worker.embedded import private_redis

ROUNDS = 3
PICK_UPS = 60
DEFERRED = 100
DRAINED = {"embarq": 20_000, "arq": 2_000}
COMMANDS = {"embarq": ["-m", "worker.cli", "worker", "-c", "100"], "arq": ["-m", "benchmarks.plain"]}

Figures = dict[str, float]


@contextmanager
def worker_process(system: str, url: str, log: Path) -> Iterator[int]:
    """A worker, by its process id."""
    environment = {**os.environ, "REDIS_URL": url, "EMBARQ_JOBS": "benchmarks.jobs"}
    with log.open("ab") as output:
        process = subprocess.Popen([sys.executable, *COMMANDS[system]], env=environment, stdout=output, stderr=output)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(60)


async def started_at(client: Client, name: str, defer: float = 0) -> tuple[float, float]:
    """When a job was asked to start, and when it did."""
    asked = time.time() + defer
    until = datetime.fromtimestamp(asked, UTC) if defer else None
    job = await client.enqueue_job(name, _defer_until=until)
    assert job is not None
    return asked, await result_of(client, job.job_id)


async def result_of(client: Client, job_id: str) -> float:
    job = ArqJob(job_id, client, keys.QUEUE, arq_deserializer)
    return float(await job.result(timeout=60, poll_delay=0.05))


async def pick_up(client: Client) -> list[float]:
    late = []
    for _ in range(PICK_UPS):
        asked, started = await started_at(client, "stamp")
        late.append(1000 * (started - asked))
        await asyncio.sleep(random.uniform(0.05, 0.15))
    return late


async def deferred(client: Client) -> list[float]:
    waits = [random.uniform(0.5, 4.0) for _ in range(DEFERRED)]
    times = await asyncio.gather(*(started_at(client, "stamp", wait) for wait in waits))
    return [1000 * (started - asked) for asked, started in times]


async def drain(client: Client, count: int) -> float:
    """Jobs a second, from the first enqueue's end to an empty queue, with the worker stopped meanwhile."""
    started = time.monotonic()
    while await client.zcard(keys.QUEUE):
        await asyncio.sleep(0.01)
    return count / (time.monotonic() - started)


async def fill(client: Client, count: int) -> float:
    """Jobs a second that one client enqueues, 50 at a time."""
    started = time.monotonic()
    for _ in range(count // 50):
        await asyncio.gather(*(client.enqueue_job("noop") for _ in range(50)))
    return count / (time.monotonic() - started)


def percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


async def measure(system: str, url: str, log: Path) -> Figures:
    async with Client.open(url, size=150) as client:
        with worker_process(system, url, log):
            await started_at(client, "stamp")
            idle, due = await pick_up(client), await deferred(client)
        filled = await fill(client, DRAINED[system])
        with worker_process(system, url, log):
            while await client.zcard(keys.QUEUE) == DRAINED[system]:
                await asyncio.sleep(0.001)
            drained = await drain(client, DRAINED[system])
    return {
        "idle pick-up p50": percentile(idle, 50),
        "idle pick-up p95": percentile(idle, 95),
        "idle pick-up p99": percentile(idle, 99),
        "deferred late p50": percentile(due, 50),
        "deferred late p99": percentile(due, 99),
        "deferred late max": max(due),
        "enqueue jobs/s": filled,
        "drain no-op jobs/s": drained,
    }


async def memory(url: str, log: Path) -> tuple[float, float]:
    """Megabytes of one worker after 20,000 and after 200,000 jobs."""
    resident = []
    async with Client.open(url, size=150) as client:
        with worker_process("embarq", url, log) as pid:
            for count in (20_000, 180_000):
                await fill(client, count)
                await drain(client, count)
                resident.append(psutil.Process(pid).memory_info().rss / 2**20)
    return resident[0], resident[1]


def main() -> None:
    rounds: dict[str, list[Figures]] = {"embarq": [], "arq": []}
    with tempfile.TemporaryDirectory(prefix="embarq-") as folder:
        for number in range(ROUNDS):
            for system, figures in rounds.items():
                place = Path(folder) / f"{system}-{number}"
                with private_redis(place) as url:
                    figures.append(asyncio.run(measure(system, url, place / "worker.log")))
                sys.stderr.write(f"round {number + 1} of {ROUNDS}: {system} done\n")
        with private_redis(Path(folder) / "memory") as url:
            early, late = asyncio.run(memory(url, Path(folder) / "memory.log"))
    sys.stdout.write(f"{'':22}{'embarq':>12}{'arq':>12}\n")
    for name in rounds["embarq"][0]:
        ours, theirs = (statistics.median(f[name] for f in rounds[system]) for system in ("embarq", "arq"))
        sys.stdout.write(f"{name:22}{ours:12,.1f}{theirs:12,.1f}\n")
    sys.stdout.write(f"a worker's memory after 20,000 jobs {early:.1f} MB, after 200,000 jobs {late:.1f} MB\n")


main()
