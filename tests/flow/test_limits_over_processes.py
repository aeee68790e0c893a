"""Limits over worker processes that are killed: never more than allowed, and what is allowed is used."""

import asyncio
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow import jobs_of_tests
from tests.support import Kit, eventually, start_embarq
from worker import registry

LEASE = 1.0


class Crew:
    """Three worker processes of a queue."""

    def __init__(self, kit: Kit, redis_url: str, folder: Path) -> None:
        self._log = folder / "workers.log"
        self._environment = {
            "REDIS_URL": redis_url,
            "EMBARQ_JOBS": "tests.flow.jobs_of_tests",
            "EMBARQ_LEASE": str(LEASE),
            "EMBARQ_QUEUES": kit.queue,
            "EMBARQ_GRACE": "1",
            "EMBARQ_LEASES_LOST_LIMIT": "1000",
            "EMBARQ_LOG_LEVEL": "WARNING",
        }
        self.processes: list[subprocess.Popen[bytes]] = []
        for _ in range(3):
            self.start()

    def start(self) -> None:
        self.processes.append(start_embarq("worker", "-c", "20", log=self._log, **self._environment))

    def kill_one(self) -> None:
        process = self.processes.pop(random.randrange(len(self.processes)))
        process.kill()
        process.wait(10)
        self.start()

    def close(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(15)


@pytest.fixture
def crew(kit: Kit, redis_url: str, tmp_path: Path) -> Iterator[Crew]:
    made = Crew(kit, redis_url, tmp_path)
    yield made
    made.close()


async def wait_for_workers(kit: Kit, count: int) -> None:
    async def there() -> bool:
        return sum(kit.queue in record.queues for record in await kit.client.workers()) >= count

    await eventually(there, 30)


@pytest.mark.alone
@pytest.mark.timeout(180)
async def test_rate_limit_under_pressure(kit: Kit, crew: Crew) -> None:
    """100 a minute, with time scaled to 100 in 4 seconds, for three periods of pressure."""
    await wait_for_workers(kit, 3)
    options = jobs_of_tests.limited.options(queue=kit.queue)
    handles = await kit.client.enqueue_many(options.call(n=n) for n in range(400))
    began = time.monotonic()
    for handle in handles[:300]:
        await kit.client.wait_for(handle.id, 60)
    took = time.monotonic() - began
    jobs = [await kit.client.find(handle.id) for handle in handles]
    starts = sorted(job.started_at.timestamp() for job in jobs if job.started_at is not None)
    assert len(starts) >= 300
    for first, later in zip(starts, starts[jobs_of_tests.ALLOWED :], strict=False):
        assert later - first >= jobs_of_tests.PERIOD, "more starts in a period than allowed"
    assert took < 2 * jobs_of_tests.PERIOD / 0.98 + 0.3, "less than 98 % of the rate was used"


@pytest.mark.timeout(180)
async def test_concurrency_limit_under_kills(kit: Kit, crew: Crew, redis_url: str) -> None:
    await wait_for_workers(kit, 3)
    where = f"notes:{kit.queue}"
    options = jobs_of_tests.three_at_once.options(queue=kit.queue)
    handles = await kit.client.enqueue_many(options.call(where=where, seconds=0.1) for _ in range(150))
    killing = asyncio.create_task(kill_some(crew, 5))
    for handle in handles:
        assert (await kit.ended(handle.id, 60)).state.value == "succeeded"
    await killing
    lines: list[bytes] = await kit.client.redis.execute_command("LRANGE", where, 0, -1)
    running: dict[str, float] = {}
    for line in sorted(lines, key=lambda line: float(line.split()[3])):
        event, job_id, _, at = line.decode().split()
        # The place of a killed worker's job comes back with its lease, which began a moment before the note.
        running = {each: begun for each, begun in running.items() if float(at) - begun < LEASE - 0.1}
        if event == "end":
            running.pop(job_id, None)
        else:
            running[job_id] = float(at)
            assert len(running) <= 3
    assert registry.get("three_at_once").declared["limits"]


async def kill_some(crew: Crew, times: int) -> None:
    for _ in range(times):
        await asyncio.sleep(0.7)
        crew.kill_one()
