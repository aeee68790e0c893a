"""A job that kills its worker, beside innocents: these succeed, it is judged, and nobody else waits meanwhile."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.support import Kit, eventually, start_embarq
from worker import State
from worker.broker.suspects import SuspectQueues
from worker.core import keys

INNOCENTS = 40
SECONDS = float(os.environ.get("CHAOS_INNOCENT_SECONDS", "3"))
LEASE = float(os.environ.get("CHAOS_INNOCENT_LEASE", "2.5"))
WITHIN = float(os.environ.get("CHAOS_INNOCENT_WITHIN", "150"))
PICKED_UP_WITHIN = 2.5  # less than a round of those that run apart

Start = Callable[..., psutil.Process]


@pytest.fixture
def start(kit: Kit, redis_url: str, tmp_path: Path) -> Iterator[Start]:
    started = []

    def make(*arguments: str) -> psutil.Process:
        process = start_embarq(
            "worker",
            *arguments,
            log=tmp_path / "log",
            REDIS_URL=redis_url,
            EMBARQ_JOBS="tests.flow.jobs_of_tests",
            EMBARQ_QUEUES=kit.queue,
            EMBARQ_LEASE=str(LEASE),
            EMBARQ_GRACE="2",
        )
        started.append(process)
        return psutil.Process(process.pid)

    yield make
    for process in started:
        process.terminate()
        process.wait(30)


async def post(kit: Kit, job: str, *arguments: object) -> str:
    placed = await kit.client.arq.enqueue_job(job, *arguments, _queue_name=kit.queue_key)
    assert placed is not None
    return placed.job_id


async def suspects(kit: Kit) -> dict[str, int]:
    return await SuspectQueues(kit.client.redis).groups({kit.queue})


@pytest.mark.timeout(WITHIN + 60)
async def test_innocents_beside_a_killer_succeed_and_nobody_else_waits(kit: Kit, start: Start, tmp_path: Path) -> None:
    start("--processes", "2", "-c", "64")
    began = time.monotonic()
    killer = await post(kit, "kill_worker", 0.3)
    innocents = [await post(kit, "hold", f"notes:{kit.queue}", SECONDS) for _ in range(INNOCENTS)]
    await eventually(lambda: suspects(kit), WITHIN)

    fresh = []
    while not (await kit.client.find(killer)).state.ended:
        fresh.append(await post(kit, "stamped", "fresh"))
        await asyncio.sleep(0.25)
        assert time.monotonic() - began < WITHIN
    judged = await kit.client.find(killer)
    assert judged.error is not None
    assert (judged.state, judged.error.type) == (State.FAILED, "PoisonedJob")
    for job_id in innocents:
        assert (await kit.ended(job_id, WITHIN - (time.monotonic() - began))).state is State.SUCCEEDED
    for job in [await kit.ended(job_id) for job_id in fresh]:
        assert job.started_at is not None
        assert (job.state, job.tries) == (State.SUCCEEDED, 1)
        assert (job.started_at - job.enqueued_at).total_seconds() < PICKED_UP_WITHIN
    print(f"{INNOCENTS} of {SECONDS} s beside a killer: all done after {time.monotonic() - began:.0f} s")
    assert await kit.client.redis.exists(keys.SUSPECTS_IN + kit.queue_key) == 0


async def heard_of_all_claims(kit: Kit, worker: str | None) -> None:
    """Wait until a worker has confirmed what it claimed: a lease that ends before counts as none."""

    async def heard() -> bool:
        return not await kit.client.redis.keys(f"{keys.CLAIMED}{worker}:*")

    await eventually(heard, 30)


async def test_isolated_workers_end_with_their_worker(kit: Kit, start: Start) -> None:
    worker = start("-c", "4")
    held = await post(kit, "hold", f"notes:{kit.queue}", 60)
    for _ in range(2):
        running = await kit.reaches(held, State.RUNNING, 30)
        await heard_of_all_claims(kit, running.worker)
        for name in await kit.client.redis.keys(f"{keys.LEASE}{held}"):  # as if its worker had died
            await kit.client.redis.delete(name)
        await kit.client.redis.zadd(kit.queue_key, {held: 1})

    async def child() -> psutil.Process | None:
        return next(iter(worker.children()), None)

    apart = await eventually(child, 30)
    await kit.reaches(held, State.RUNNING, 30)
    worker.kill()
    await asyncio.to_thread(apart.wait, 15)
    assert (await kit.reaches(held, State.QUEUED)).tries <= 3
