"""The wire promise: plain arq and ours on the same queue, in both directions, with the installed arq."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import arq
import pytest
from arq.connections import ArqRedis, RedisSettings
from arq.jobs import Job as ArqJob
from arq.jobs import JobStatus
from arq.jobs import SerializationError as ArqSerializationError

from tests.plain_arq import plain_worker, to_json
from tests.support import Kit, eventually
from worker import Client, State
from worker.client.arq_compat import arq_deserializer
from worker.core import keys


@pytest.fixture
async def plain(redis_url: str, kit: Kit) -> AsyncIterator[ArqRedis]:
    pool = await arq.create_pool(
        RedisSettings.from_dsn(redis_url),
        job_serializer=to_json,
        job_deserializer=json.loads,
        default_queue_name=kit.queue_key,
    )
    yield pool
    await pool.aclose(close_connection_pool=True)


async def test_plain_client_to_our_worker(kit: Kit, plain: ArqRedis) -> None:
    @kit.registry.job()
    async def add(a: int, b: int) -> int:
        return a + b

    @kit.registry.job()
    async def fail() -> None:
        raise ValueError("broken")

    good, bad = await plain.enqueue_job("add", 1, b=2), await plain.enqueue_job("fail", _job_try=2)
    assert good is not None
    assert bad is not None
    assert await good.status() is JobStatus.queued
    assert (await kit.client.find(good.job_id)).state is State.QUEUED
    async with kit.worker():
        assert await good.result(timeout=10, poll_delay=0.02) == 3
        assert (await kit.ended(bad.job_id)).tries == 2
    assert await good.status() is JobStatus.complete
    info = await good.result_info()
    assert info is not None
    assert (info.function, info.success, info.result, info.job_try) == ("add", True, 3, 1)
    assert info.queue_name == kit.queue_key
    failure = await bad.result_info()
    assert failure is not None
    assert not failure.success
    assert {k: failure.result[k] for k in ("type", "message")} == {"type": "ValueError", "message": "broken"}
    assert "ValueError: broken" in failure.result["traceback"]


async def test_plain_client_defers_and_looks_up(kit: Kit, plain: ArqRedis) -> None:
    @kit.registry.job()
    async def now() -> int:
        return 1

    async with kit.worker():
        job = await plain.enqueue_job("now", _defer_by=0.6)
        assert job is not None
        assert await job.status() is JobStatus.deferred
        await kit.reaches(job.job_id, State.DEFERRED)
        assert await job.result(timeout=10, poll_delay=0.02) == 1


async def test_our_client_to_a_plain_worker(kit: Kit, plain: ArqRedis) -> None:
    async def add(ctx: dict[str, Any], a: int, b: int) -> int:
        return a + b

    @kit.registry.job(name="add")
    async def ours(a: int, b: int) -> int:
        raise AssertionError("the plain worker runs it")

    async with plain_worker(plain, kit, add):
        handle = await kit.enqueue(ours, {"a": 1, "b": 2})
        assert await handle.result(timeout=10) == 3
        by_name = await kit.client.arq.enqueue_job("add", 2, b=5, _queue_name=kit.queue_key)
        assert by_name is not None
        assert await by_name.result(timeout=10, poll_delay=0.02) == 7
    job = await handle.job()
    assert (job.state, job.queue, job.args) == (State.SUCCEEDED, kit.queue, {"a": 1, "b": 2})


async def test_our_job_by_plain_look_ups(kit: Kit, plain: ArqRedis) -> None:
    go_on = asyncio.Event()

    @kit.registry.job()
    async def hold() -> str:
        await go_on.wait()
        return "held"

    handle = await kit.enqueue(hold, delay=0.3)
    job = ArqJob(handle.id, plain, kit.queue_key, json.loads)
    assert await job.status() is JobStatus.deferred
    info = await job.info()
    assert info is not None
    assert (info.function, info.kwargs) == ("hold", {})
    async with kit.worker():
        await kit.reaches(handle.id, State.RUNNING)
        assert await job.status() is JobStatus.in_progress
        waiting = asyncio.create_task(job.result(timeout=10, poll_delay=0.02))
        await asyncio.sleep(0.1)
        go_on.set()
        assert await waiting == "held"


async def test_both_workers_on_one_queue_run_each_job_once(kit: Kit, plain: ArqRedis) -> None:
    ran: list[tuple[str, int]] = []

    async def work(ctx: dict[str, Any], n: int) -> None:
        ran.append(("plain", n))
        await asyncio.sleep(0.005)

    @kit.registry.job(name="work")
    async def ours(n: int) -> None:
        ran.append(("ours", n))
        await asyncio.sleep(0.005)

    jobs = [await plain.enqueue_job("work", n) for n in range(300)]
    async with plain_worker(plain, kit, work, max_jobs=20), kit.worker(concurrency=5):
        await asyncio.gather(*(kit.ended(job.job_id, 30) for job in jobs if job))
    assert sorted(n for _, n in ran) == list(range(300))
    assert {who for who, _ in ran} == {"plain", "ours"}


@pytest.mark.parametrize("deserializer", [json.loads, arq_deserializer])
async def test_plain_abort_of_a_running_job(kit: Kit, plain: ArqRedis, deserializer: Any) -> None:
    starts, live, most = 0, 0, 0

    @kit.registry.job()
    async def long() -> None:
        nonlocal starts, live, most
        starts, live = starts + 1, live + 1
        most = max(most, live)
        try:
            await asyncio.sleep(60)
        finally:
            live -= 1

    handle = await kit.enqueue(long)
    job = ArqJob(handle.id, plain, kit.queue_key, deserializer)
    async with kit.worker(lease=3), kit.worker(lease=3):
        await kit.reaches(handle.id, State.RUNNING)
        if deserializer is arq_deserializer:
            assert await job.abort(timeout=10, poll_delay=0.02) is True
        else:
            with pytest.raises(ArqSerializationError, match="CancelledError"):  # JSON has no exceptions
                await job.abort(timeout=10, poll_delay=0.02)
        assert (await kit.ended(handle.id)).state is State.CANCELLED
        await asyncio.sleep(0.3)
    assert (starts, most) == (1, 1)
    assert await plain.zscore("arq:abort", handle.id) is None


async def test_rescored_running_job_without_abort_is_left_alone(kit: Kit) -> None:
    starts = 0

    @kit.registry.job()
    async def hold() -> None:
        nonlocal starts
        starts += 1
        await asyncio.sleep(1.5)

    handle = await kit.enqueue(hold)
    async with kit.worker(lease=2), kit.worker(lease=2):
        await kit.reaches(handle.id, State.RUNNING)
        await kit.client.redis.zadd(kit.queue_key, {handle.id: 1})
        assert (await kit.ended(handle.id)).state is State.SUCCEEDED
    assert starts == 1


async def test_plain_abort_of_a_waiting_job(kit: Kit, plain: ArqRedis) -> None:
    @kit.registry.job()
    async def long() -> None:
        await asyncio.sleep(60)  # plain abort makes it due before it says why, so it may just start

    handle = await kit.enqueue(long, delay=30)
    job = ArqJob(handle.id, plain, kit.queue_key, arq_deserializer)
    async with kit.worker():
        assert await job.abort(timeout=10, poll_delay=0.02) is True
    assert (await handle.job()).state is State.CANCELLED


@pytest.mark.arq_defect(7)
async def test_old_abort_does_not_stop_a_later_job_of_that_id(kit: Kit) -> None:

    @kit.registry.job()
    async def work() -> int:
        return 1

    job_id = f"{kit.queue}-again"
    await kit.client.redis.zadd(keys.ABORT, {job_id: 1})
    handle = await kit.enqueue(work, id=job_id)
    await kit.drain()
    assert await handle.result(timeout=1) == 1


async def test_our_job_waits_out_a_plain_workers_retry(kit: Kit, plain: ArqRedis) -> None:
    async def shaky(ctx: dict[str, Any]) -> int:
        if ctx["job_try"] < 2:
            raise arq.Retry(defer=0.2)
        return int(ctx["job_try"])

    job = await plain.enqueue_job("shaky")
    assert job is not None

    async def settled() -> ArqJob | None:
        return job if await job.status() is JobStatus.complete else None

    async with plain_worker(plain, kit, shaky):
        await eventually(settled)
    found: Client = kit.client
    assert (await found.find(job.job_id)).result == 2
