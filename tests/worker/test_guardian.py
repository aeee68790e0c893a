import asyncio
import time

import pytest

from tests.support import Kit, logged
from worker import State
from worker.broker import keys


@pytest.mark.arq_defect(3)
async def test_job_that_blocks_the_loop_keeps_its_lease_and_is_reported(kit: Kit) -> None:
    starts = []
    freed = asyncio.Event()

    @kit.registry.job()
    async def block() -> int:
        starts.append(time.monotonic())
        time.sleep(30)  # noqa: ASYNC251  # that is what is tested
        freed.set()
        return len(starts)

    handle = await kit.enqueue(block)
    with logged("embarq.guardian") as lines:
        async with kit.worker(lease=3):
            await freed.wait()  # a command of this loop that is under way meanwhile would time out
            assert await handle.result(timeout=15) == 1
    (line,) = [line for line in lines if line["event"] == "the event loop is blocked"]
    assert (line["job"], line["job_id"]) == ("block", handle.id)
    assert "time.sleep(30)" in line["stack"]
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
        await kit.client.set(keys.LEASE + handle.id, b"embarq:other:1", px=60_000)
        async with asyncio.timeout(5):
            await stopped.wait()
    assert await kit.client.get(keys.LEASE + handle.id) == b"embarq:other:1"
    assert await kit.client.exists(keys.RESULT + handle.id) == 0
