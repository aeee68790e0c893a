"""Many schedules, due every second, fired by worker processes that are killed: each time once, none missed."""

import asyncio
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow import jobs_of_tests  # noqa: F401  # registers the job
from tests.support import eventually, start_embarq
from worker.client import Client
from worker.core import keys
from worker.core.schedule import make_record
from worker.definition.registry import registry
from worker.dev import private_redis
from worker.runtime.scheduler import Scheduler

SCHEDULES = int(os.environ.get("CHAOS_SCHEDULES", "50"))
SECONDS = int(os.environ.get("CHAOS_SCHEDULE_SECONDS", "10"))


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[str]:
    with private_redis(tmp_path / "redis") as url:
        yield url


@pytest.mark.timeout(300)
async def test_each_time_of_many_schedules_fires_once_under_kills(own_redis: str, tmp_path: Path) -> None:
    environment = {
        "REDIS_URL": own_redis,
        "EMBARQ_JOBS": "tests.flow.jobs_of_tests",
        "EMBARQ_LEASE": "1",
        "EMBARQ_LEASES_LOST_LIMIT": "1000",
        "EMBARQ_LOG_LEVEL": "WARNING",
    }

    def start(*command: str) -> "subprocess.Popen[bytes]":
        return start_embarq(*command, log=tmp_path / "workers.log", **environment)

    processes = [start("worker") for _ in range(4)] + [start("scheduler")]
    try:
        async with Client.open(own_redis) as client:
            await eventually(lambda: four(client), 30)
            scheduler = Scheduler(client.schedules, registry)
            for n in range(SCHEDULES):
                record = {"name": f"s{n}", "job": "stamped", "every": 1.0, "args": {"name": f"s{n}"}}
                await scheduler.create(make_record(record))
            first = time.time()
            for _ in range(SECONDS):
                await asyncio.sleep(1)
                killed = processes.pop(random.randrange(4))
                killed.kill()
                killed.wait(10)
                processes.insert(0, start("worker"))
            await asyncio.sleep(1)
            last = time.time()
            for n in range(SCHEDULES):
                await scheduler.drop(f"s{n}")
            await eventually(lambda: empty(client), 30)
            results = [await client.find(key.decode().removeprefix(keys.RESULT)) for key in await results_of(client)]
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(40)
    ran: dict[str, Counter[int]] = {f"s{n}": Counter() for n in range(SCHEDULES)}
    for job in results:
        assert job.state.value == "succeeded"
        _, name, due = job.id.split("~")
        ran[name][int(due) // 1000] += 1
    for name, times in ran.items():
        assert set(times.values()) == {1}, name
        expected = set(range(int(first) + 2, int(last)))
        assert expected <= set(times), f"{name} missed {sorted(expected - set(times))}"


async def four(client: Client) -> bool:
    return len(await client.workers()) >= 4


async def empty(client: Client) -> bool:
    return not await client.redis.zcard(keys.QUEUE)


async def results_of(client: Client) -> list[bytes]:
    found: list[bytes] = await client.redis.keys(f"{keys.RESULT}*")
    return found
