"""`python -m benchmarks.soak`: ten minutes at half load, after which everything is as large as in the second minute.

One worker process with the history in Postgres and a client that queues jobs of all kinds. `SOAK_SECONDS` makes it
shorter or longer.
"""

import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks import soak_jobs
from benchmarks.growth import worker
from benchmarks.systems import REDIS_PORT
from worker import Client, chord, registry
from worker.core import keys
from worker.database import make_engine
from worker.database.migrate import migrate
from worker.dev import private_postgres, private_redis

SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
EVERY = min(30.0, SECONDS / 20)
WARM = SECONDS / 5  # of ten minutes, two
BATCH_SECONDS = 0.1
CALIBRATED = 10_000
POOLED = 500
PILE_SECONDS = 2.0  # of work that may wait
TTL = 20.0
SAMPLES = 3  # whose medians are compared
PATIENCE = 120.0


@dataclass(frozen=True)
class Allowed:
    """How much something may grow: by a share, and by a number whatever the share."""

    share: float
    number: float = 0.0


ALLOWED = {
    "worker MB": Allowed(0.15, 5),
    "worker descriptors": Allowed(0.1, 5),
    "worker threads": Allowed(0.1, 5),
    "worker tasks": Allowed(0.5, 60),
    "client MB": Allowed(0.15, 5),
    "client descriptors": Allowed(0.1, 5),
    "Redis MB": Allowed(0.25, 2),
    "Redis clients": Allowed(0.1, 5),
    "Postgres connections": Allowed(0.1, 3),
}
KEYS_ALLOWED = Allowed(0.35, 200)
KEPT = 90.0  # seconds after which as much is forgotten as is made: ends stay for a minute, workflows as long here
OF_REDIS = ("keys ", "Redis MB")
Sample = dict[str, float]


@dataclass
class Soak:
    """What is looked at, and what was seen."""

    client: Client
    engine: AsyncEngine
    process: psutil.Process
    chance: random.Random
    made: int = 0
    flows: int = 0
    samples: list[tuple[float, Sample]] = field(default_factory=list)

    async def feed(self, rate: float, seconds: float) -> None:
        """Queue at an even rate; one call in a hundred is a workflow of four jobs. While the machine is busy with other
        things and work piles up, nothing is added."""
        began, called = time.monotonic(), 0.0
        while time.monotonic() < began + seconds:
            await asyncio.sleep(BATCH_SECONDS)
            if await self.length() > PILE_SECONDS * rate:
                called = rate * (time.monotonic() - began)
                continue
            due = rate * (time.monotonic() - began)
            count, called = int(due - called), called + int(due - called)
            flows = sum(self.chance.random() < 0.01 for _ in range(count))
            await self.client.enqueue_many([soak_jobs.some(self.chance) for _ in range(count - flows)])
            for _ in range(flows):
                flow = chord([soak_jobs.quick.s(n) for n in range(3)], soak_jobs.added.s())
                await self.client.start(flow, {"keep": 60})
            self.made += count - flows
            self.flows += flows

    async def drain_rate(self) -> float:
        """Jobs of this mixture a second that are drained, and written into the history."""
        calls = [soak_jobs.some(self.chance) for _ in range(CALIBRATED)]
        began = time.monotonic()
        await self.client.enqueue_many(calls)
        self.made += CALIBRATED
        while await self.length() + await self.client.redis.xlen(keys.RECORDS) > CALIBRATED / 20:
            await asyncio.sleep(0.05)
        return CALIBRATED / (time.monotonic() - began)

    async def fill_pools(self) -> None:
        """Let all slots of the worker speak with Redis at once, as they may at any time: its pool is full then."""
        calls = [soak_jobs.once.call(-n) for n in range(1, POOLED + 1)]
        handles = await self.client.enqueue_many(calls)
        self.made += POOLED
        for handle in handles:
            await handle.result(PATIENCE)

    async def length(self) -> int:
        """Jobs that have not ended."""
        counts = [await self.client.redis.zcard(f"{keys.QUEUE}{level}") for level in ("", "!high", "!low")]
        return int(sum(counts))

    async def watch(self, seconds: float) -> None:
        """Take a sample again and again, and print it."""
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            await asyncio.sleep(min(EVERY, seconds - passed))
            sample = await self.sample()
            self.samples.append((time.monotonic() - began, sample))
            shown = ", ".join(f"{name} {value:,.0f}" for name, value in sorted(sample.items()))
            sys.stdout.write(f"soak: {time.monotonic() - began:4.0f} s: {shown}\n")
            sys.stdout.flush()

    async def sample(self) -> Sample:
        """Everything that could grow."""
        own, handle = psutil.Process(), await soak_jobs.census.enqueue()
        inside = await handle.result(timeout=PATIENCE)
        info = await self.client.redis.info()
        async with self.engine.connect() as connection:
            backends = (await connection.execute(text("SELECT count(*) FROM pg_stat_activity"))).scalar_one()
        found: Sample = {
            "worker MB": self.process.memory_info().rss / 2**20,
            "worker descriptors": self.process.num_fds(),
            "worker threads": self.process.num_threads(),
            "worker tasks": inside["tasks"],
            "client MB": own.memory_info().rss / 2**20,
            "client descriptors": own.num_fds(),
            "Redis MB": info["used_memory"] / 2**20,
            "Redis clients": info["connected_clients"],
            "Postgres connections": backends,
        }
        return found | await self.keys_by_prefix()

    async def keys_by_prefix(self) -> Sample:
        """How many keys there are of each kind."""
        kinds: Counter[str] = Counter()
        async for key in self.client.redis.scan_iter(count=5000):
            kinds[":".join(key.decode(errors="replace").split(":")[:2])] += 1
        return {f"keys {kind}": count for kind, count in kinds.items()}

    async def rows(self) -> int:
        """Jobs in the history."""
        async with self.engine.connect() as connection:
            return int((await connection.execute(text("SELECT count(*) FROM embarq_jobs"))).scalar_one())


def grown(samples: Sequence[tuple[float, Sample]]) -> list[str]:
    """What grew by more than it may between the second minute (or what stands for it) and the end."""
    warm = [sample for at, sample in samples if at >= WARM]
    first, last = warm[:SAMPLES], warm[-SAMPLES:]
    names = sorted({name for _, sample in samples for name in sample})
    found = []
    for name in names:
        if WARM < KEPT and name.startswith(OF_REDIS):
            continue
        before, after = (statistics.median(sample.get(name, 0) for sample in part) for part in (first, last))
        allowed = ALLOWED.get(name, KEYS_ALLOWED)
        if after > before * (1 + allowed.share) + allowed.number:
            found.append(f"{name}: {before:,.0f} grew to {after:,.0f}")
    return found


async def soak(redis_url: str, database_url: str, folder: Path) -> list[str]:
    """Run it; what is not as it should be."""
    engine = make_engine(database_url)
    settings = {
        "DATABASE_URL": database_url,
        "EMBARQ_JOBS": "benchmarks.soak_jobs",
        "EMBARQ_RESULT_TTL": str(TTL),
        "EMBARQ_DATA_DIR": str(folder),
    }
    async with Client.open(redis_url) as client:
        registry.bind(client)
        with worker(redis_url, folder, **settings) as process:
            await until(client.workers)
            found = Soak(client, engine, process, random.Random(1))
            rate = await found.drain_rate() / 2
            await found.fill_pools()
            sys.stdout.write(f"soak: {SECONDS:.0f} s at {rate:,.0f} jobs a second, half of what is drained\n")
            async with asyncio.TaskGroup() as group:
                group.create_task(found.feed(rate, SECONDS))
                group.create_task(found.watch(SECONDS))
            wrong = grown(found.samples)
            wrong += await settled(found)
            rows = await found.rows()
    await engine.dispose()
    sys.stdout.write(f"soak: {found.made:,} jobs, {found.flows:,} workflows, {rows:,} rows of history\n")
    return wrong


async def settled(found: Soak) -> list[str]:
    """What does not come to its end."""
    began = time.monotonic()
    while time.monotonic() < began + PATIENCE:
        left, unwritten = await found.length(), await found.client.redis.xlen(keys.RECORDS)
        if not left and not unwritten:
            return []
        await asyncio.sleep(0.5)
    return [f"after {PATIENCE:.0f} s {left} jobs have not ended and {unwritten} entries of the history are not written"]


async def until(look: Callable[[], Awaitable[object]]) -> None:
    """Wait until the worker lives."""
    deadline = time.monotonic() + PATIENCE
    while not await look():
        assert time.monotonic() < deadline, "the worker does not start"
        await asyncio.sleep(0.05)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="embarq-") as name, private_postgres(Path(name) / "pg") as database:
        migrate(database)
        with private_redis(Path(name) / "redis", port=REDIS_PORT) as redis_url:
            wrong = asyncio.run(soak(redis_url, database, Path(name)))
    for line in wrong:
        sys.stdout.write(f"soak: {line}\n")
    if WARM < KEPT:
        sys.stdout.write(f"soak: keys are judged in {5 * KEPT:.0f} s or more\n")
    sys.stdout.write("soak: all flat\n" if not wrong else "")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
