"""Defects of plain arq that our engine must not have, where no other test shows it. `docs/arq-defects.md` lists all."""

import asyncio
import re
import time

import pytest

from tests.support import ROOT, Kit
from worker import Retry, State
from worker.core import keys

DEFECTS = set(range(1, 14))


@pytest.mark.arq_defect(1)
async def test_neither_new_jobs_nor_freed_slots_wait_for_a_poll(kit: Kit) -> None:
    @kit.registry.job()
    async def brief() -> None:
        await asyncio.sleep(0.01)

    async with kit.worker(poll=30, concurrency=2):
        await kit.ended((await kit.enqueue(brief)).id)
        began = time.monotonic()
        handles = [await kit.enqueue(brief) for _ in range(40)]
        for handle in handles:
            await kit.ended(handle.id)
    assert time.monotonic() - began < 10


@pytest.mark.arq_defect(10)
async def test_payload_outlives_any_backlog(kit: Kit) -> None:
    @kit.registry.job()
    async def waits() -> None: ...

    handle = await kit.enqueue(waits, delay=86_400 * 30)
    for key in (keys.JOB + handle.id, kit.queue_key):
        assert await kit.client.redis.ttl(key) == -1


@pytest.mark.arq_defect(10)
async def test_count_of_tries_outlives_any_backlog(kit: Kit) -> None:
    @kit.registry.job(max_tries=5)
    async def again() -> None:
        raise Retry(delay=3600)

    handle = await kit.enqueue(again)
    async with kit.worker():
        await kit.reaches(handle.id, State.RETRYING)
    assert await kit.client.redis.ttl(keys.TRIES + handle.id) == -1


@pytest.mark.arq_defect(12)
async def test_look_ups_of_arqs_client_survive_a_vanished_payload(kit: Kit) -> None:
    @kit.registry.job()
    async def waits() -> None: ...

    first, second = [await kit.enqueue(waits, delay=60) for _ in range(2)]
    await kit.client.redis.delete(keys.JOB + first.id)
    assert [job.job_id for job in await kit.client.arq.queued_jobs(queue_name=kit.queue_key)] == [second.id]


@pytest.mark.arq_defect(12)
async def test_all_results_are_read_without_listing_all_keys(kit: Kit) -> None:
    @kit.registry.job()
    async def works(number: int) -> int:
        return number

    handles = [await kit.enqueue(works, {"number": number}) for number in range(5)]
    await kit.drain()
    await kit.client.redis.config_resetstat()
    results = {result.job_id: result.result for result in await kit.client.arq.all_job_results()}
    assert [results[handle.id] for handle in handles] == [0, 1, 2, 3, 4]
    assert "cmdstat_keys" not in await kit.client.redis.info("commandstats")


@pytest.mark.arq_defect(13)
async def test_a_clients_wrong_clock_delays_nothing(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    @kit.registry.job()
    async def works() -> None: ...

    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    handle = await kit.enqueue(works)
    defined = await kit.client.arq.enqueue_job("works", _queue_name=kit.queue_key, _defer_by=1)
    monkeypatch.undo()
    assert defined is not None
    async with kit.worker():
        assert (await kit.ended(handle.id, 2)).state is State.SUCCEEDED
        assert (await kit.ended(defined.job_id, 5)).state is State.SUCCEEDED


def test_every_defect_has_its_test() -> None:
    marked = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        marked |= {int(number) for number in re.findall(r"arq_defect\((\d+)\)", file.read_text())}
    assert marked == DEFECTS
