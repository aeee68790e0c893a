import asyncio
import signal
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import Gauge, Kit, eventually
from worker import ConcurrencyLimit, RateLimit, Registry, State, Worker
from worker.core import keys
from worker.core.errors import DefinitionError


@given(st.integers(1, 10**6), st.integers(1, 999), st.sampled_from("smhd"))
def test_any_rate_is_read(count: int, period: int, unit: str) -> None:
    limit = RateLimit(f"{count}/{period}{unit}")
    assert limit.count == count
    assert limit.period == period * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
    assert limit.key("job", {}) == f"r:{count}:{limit.period * 1000:.0f}:job"


@pytest.mark.parametrize("rate", ["", "5", "5/", "0/s", "5/0s", "5/x", "-1/s", "5/s ", "five/s"])
def test_what_is_no_rate_is_refused(rate: str) -> None:
    with pytest.raises(DefinitionError):
        RateLimit(rate)


def test_limit_by_an_argument_that_the_job_lacks_is_refused() -> None:
    registry = Registry()

    @registry.job(limits=[RateLimit("5/s", by="tenant")])
    async def work(user: int) -> None: ...

    with pytest.raises(DefinitionError, match="tenant"):
        _ = work.schema
    with pytest.raises(DefinitionError, match="from 1 to 1000000, not 0"):
        ConcurrencyLimit(0)


def busiest(starts: list[float], period: float) -> int:
    """Most starts within any period."""
    ordered = sorted(starts)
    return max(sum(begin <= each < begin + period for each in ordered) for begin in ordered)


@pytest.mark.alone
async def test_rate_limit_holds_over_workers_in_any_window_and_is_used(kit: Kit) -> None:
    starts: list[float] = []

    @kit.registry.job(name=f"rated-{kit.queue}", limits=[RateLimit("20/s")])
    async def limited() -> None: ...

    handles = [await kit.enqueue(limited) for _ in range(70)]
    began = time.monotonic()
    async with kit.worker(), kit.worker(), kit.worker():
        for handle in handles:
            await kit.ended(handle.id)
    took = time.monotonic() - began
    for handle in handles:
        job = await handle.job()
        assert job.started_at is not None
        starts.append(job.started_at.timestamp())
    assert busiest(starts, 1.0) == 20
    assert 3.0 <= took < 3.4  # 20 at once, and 20 after each of three seconds


async def test_jobs_behind_a_limited_one_are_not_held_up(kit: Kit) -> None:
    ran: list[str] = []

    @kit.registry.job(name=f"rated-{kit.queue}", limits=[RateLimit("1/h")])
    async def rare() -> None:
        ran.append("rare")

    @kit.registry.job()
    async def common() -> None:
        ran.append("common")

    waiting = [await kit.enqueue(rare) for _ in range(500)]
    async with kit.worker(concurrency=5):
        free = [await kit.enqueue(common) for _ in range(20)]
        for handle in free:
            await kit.ended(handle.id, 2)
        assert Counter(ran) == {"common": 20, "rare": 1}
        (record,) = [each for each in await kit.client.queues() if each.queue == kit.queue]
        assert (record.limited, record.waiting) == (499, 0)
        assert (await waiting[-1].job()).state is State.QUEUED


async def test_waiting_for_a_limit_makes_no_busy_loop(kit: Kit) -> None:
    @kit.registry.job(name=f"rated-{kit.queue}", limits=[RateLimit("1/h")])
    async def rare() -> None: ...

    for _ in range(100):
        await kit.enqueue(rare)
    async with kit.worker():
        await asyncio.sleep(0.5)
        before = await calls_of_scripts(kit)
        await asyncio.sleep(2)
        assert await calls_of_scripts(kit) - before < 15  # a poll each half second, a heartbeat


async def calls_of_scripts(kit: Kit) -> int:
    stats: Any = await kit.client.redis.info("commandstats")
    return int(stats["cmdstat_evalsha"]["calls"])


@pytest.mark.alone
async def test_concurrency_limit_holds_over_workers_and_is_used(kit: Kit) -> None:
    running = Gauge()

    @kit.registry.job(limits=[ConcurrencyLimit(3)])
    async def few() -> None:
        with running:
            await asyncio.sleep(0.05)

    handles = [await kit.enqueue(few) for _ in range(60)]
    began = time.monotonic()
    async with kit.worker(), kit.worker(), kit.worker():
        for handle in handles:
            await kit.ended(handle.id)
    assert running.most == 3
    assert time.monotonic() - began < 2.0  # 20 rounds of 50 ms would be ideal
    assert await kit.client.redis.exists(keys.PARKED + "c:3:0:few") == 0


@pytest.mark.alone
async def test_limits_by_argument_count_apart(kit: Kit) -> None:
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()

    @kit.registry.job(limits=[ConcurrencyLimit(1, by="tenant")])
    async def work(tenant: str) -> None:
        running[tenant] += 1
        most[tenant] = max(most[tenant], running[tenant])
        await asyncio.sleep(0.02)
        running[tenant] -= 1

    for tenant in "abc" * 5:
        await kit.enqueue(work, {"tenant": tenant})
    began = time.monotonic()
    await kit.drain()
    assert most == {"a": 1, "b": 1, "c": 1}
    assert time.monotonic() - began < 1.0


async def test_slot_is_free_after_a_failure_a_retry_and_a_cancel(kit: Kit) -> None:
    tries = []

    @kit.registry.job(limits=[ConcurrencyLimit(1)], max_tries=2)
    async def one(how: str) -> None:
        tries.append(how)
        if how == "fail":
            raise ValueError
        if how == "sleep":
            await asyncio.sleep(30)

    async with kit.worker():
        await kit.ended((await kit.enqueue(one, {"how": "fail"})).id)
        sleeper = await kit.enqueue(one, {"how": "sleep"})
        await kit.reaches(sleeper.id, State.RUNNING)
        behind = await kit.enqueue(one, {"how": "go"})
        await asyncio.sleep(0.1)
        await sleeper.cancel()
        await kit.ended(behind.id, 3)


async def test_two_limits_at_once(kit: Kit) -> None:
    @kit.registry.job(name=f"rated-{kit.queue}", limits=[ConcurrencyLimit(2), RateLimit("5/s")])
    async def work() -> None:
        await asyncio.sleep(0.01)

    handles = [await kit.enqueue(work) for _ in range(12)]
    async with kit.worker():
        for handle in handles:
            await kit.ended(handle.id)
    starts = [begun.timestamp() for handle in handles if (begun := (await handle.job()).started_at)]
    assert busiest(starts, 1.0) <= 5


async def test_cancelled_job_that_waited_for_a_limit_stays_cancelled(kit: Kit) -> None:
    @kit.registry.job(limits=[ConcurrencyLimit(1)])
    async def one(seconds: float) -> None:
        await asyncio.sleep(seconds)

    async with kit.worker():
        first = await kit.enqueue(one, {"seconds": 0.3})
        await kit.reaches(first.id, State.RUNNING)
        second, third = [await kit.enqueue(one, {"seconds": 0}) for _ in range(2)]
        await eventually(lambda: parked(kit, "c:1:0:one", 2))
        assert await second.cancel() is State.CANCELLED
        await kit.ended(third.id)
    assert (await second.job()).state is State.CANCELLED


async def parked(kit: Kit, key: str, count: int) -> bool:
    return bool(await kit.client.redis.zcard(keys.PARKED + key) == count)


@pytest.mark.alone
async def test_one_tenants_backlog_does_not_delay_another(kit: Kit) -> None:
    ran: list[str] = []

    @kit.registry.job(limits=[ConcurrencyLimit(5, by="tenant")])
    async def work(tenant: str) -> None:
        await asyncio.sleep(0.02)
        ran.append(tenant)

    options: Any = {"queue": kit.queue}
    await kit.client.enqueue_many(work.options(**options).call(tenant="big") for _ in range(10_000))
    worker = Worker(kit.client, kit.registry, kit.config(concurrency=20))
    running = asyncio.create_task(worker.async_run())
    try:
        began = time.monotonic()
        small = await kit.enqueue(work, {"tenant": "small"})
        await kit.ended(small.id)
        assert time.monotonic() - began < 1.0
        assert len(ran) < 200
    finally:
        worker.handle_sig(signal.SIGTERM)
        await running
