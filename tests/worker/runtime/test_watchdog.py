import asyncio
import contextlib
import time
from urllib.parse import urlsplit

import pytest

from tests.support import CuttingProxy, Kit, eventually, logged
from worker import Client, State, Worker
from worker.core import keys


@pytest.mark.arq_defect(3)
async def test_job_that_blocks_the_loop_keeps_its_lease_and_is_reported(kit: Kit) -> None:
    starts = []
    freed = asyncio.Event()

    @kit.registry.job()
    async def block() -> int:
        starts.append(time.monotonic())
        time.sleep(10)  # noqa: ASYNC251  # that is what is tested
        freed.set()
        return len(starts)

    handle = await kit.enqueue(block)
    with logged("embarq.loop") as lines:
        async with kit.worker(lease=3):  # which the job blocks the loop for three times
            await freed.wait()  # a command of this loop that is under way meanwhile would time out
            assert await handle.result(timeout=15) == 1
    (line,) = [line for line in lines if line["event"] == "the event loop is blocked"]
    assert (line["job"], line["job_id"]) == ("block", handle.id)
    assert "time.sleep(10)" in line["stack"]
    assert (await handle.job()).tries == 1


async def test_lease_that_was_taken_away_stops_the_job(kit: Kit) -> None:
    stopped = asyncio.Event()

    @kit.registry.job()
    async def long() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    handle = await kit.enqueue(long)
    async with kit.worker(lease=1, grace=0):
        await kit.reaches(handle.id, State.RUNNING)
        await kit.client.redis.set(keys.LEASE + handle.id, b"embarq:other:1", px=60_000)
        async with asyncio.timeout(5):
            await stopped.wait()
    assert await kit.client.redis.get(keys.LEASE + handle.id) == b"embarq:other:1"
    assert await kit.client.redis.exists(keys.RESULT + handle.id) == 0


@pytest.mark.parametrize("lease", [1.5, 3.0])
async def test_run_whose_packets_are_dropped_is_over_before_the_next_one_begins(
    kit: Kit, redis_url: str, lease: float
) -> None:
    """The proxy goes silent without closing, at the worst moment: just after a renewal has begun."""
    runs: list[tuple[str, float]] = []

    @kit.registry.job()
    async def long() -> None:
        runs.append(("begins", time.monotonic()))
        try:
            await asyncio.sleep(1.0 if len(runs) > 1 else 60)
        finally:
            runs.append(("ends", time.monotonic()))

    async with (
        CuttingProxy(urlsplit(redis_url).port or 0).serve() as proxy,
        Client.open(f"redis://127.0.0.1:{proxy.port}") as behind,
    ):
        cut_off = Worker(behind, kit.registry, kit.config(lease=lease, grace=0, cancel_grace=0.1))
        working = asyncio.create_task(cut_off.async_run())
        handle = await kit.enqueue(long)
        await kit.reaches(handle.id, State.RUNNING)
        await renewed(kit, handle.id)
        proxy.passes.clear()
        async with kit.worker(lease=lease):
            job = await kit.ended(handle.id, 30)
        working.cancel()
        proxy.passes.set()
        with contextlib.suppress(asyncio.CancelledError):
            await working
    assert (job.state, job.tries) == (State.SUCCEEDED, 2)
    assert [name for name, _ in runs] == ["begins", "ends", "begins", "ends"], runs
    assert runs[2][1] - runs[1][1] > min(1.0, lease / 10) / 2, "ended with less than half of the margin to spare"


async def renewed(kit: Kit, job_id: str) -> None:
    """Wait until the job's lease has been renewed."""
    left = 1 << 60

    async def longer() -> bool:
        nonlocal left
        before, left = left, await kit.client.redis.pttl(keys.LEASE + job_id)
        return bool(left > before)

    await eventually(longer)
