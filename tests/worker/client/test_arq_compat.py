"""Code that was written for arq, handed `client.arq` in place of arq's own client."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from arq.connections import ArqRedis
from arq.jobs import Job as ArqJob
from arq.jobs import JobStatus, ResultNotFound
from arq.worker import Worker as ArqWorker

from tests.plain_arq import plain_worker
from tests.support import Kit, eventually
from worker import Client, Context, State
from worker.client.arq_compat import arq_deserializer, arq_serializer
from worker.core.errors import CallRefused


class Refused(Exception): ...


@asynccontextmanager
async def arqs_worker(kit: Kit, *functions: Any) -> AsyncIterator[ArqWorker]:
    """The installed arq's worker, with our client as its pool."""
    serializers = {"job_serializer": arq_serializer, "job_deserializer": arq_deserializer}
    async with plain_worker(kit.client.arq, kit, *functions, allow_abort_jobs=True, **serializers) as worker:
        yield worker


async def test_adapter_is_arqs_client_on_the_clients_own_connections(client: Client) -> None:
    assert isinstance(client.arq, ArqRedis)
    assert client.arq is client.arq
    assert client.arq.connection_pool is client.redis.connection_pool
    assert client.arq.default_queue_name == "arq:queue"


async def test_plain_arqs_calls_work_on_it(kit: Kit) -> None:
    @kit.registry.job()
    async def add(a: int, b: int) -> int:
        return a + b

    @kit.registry.job()
    async def refuse() -> None:
        raise Refused("not today")

    pool, queue = kit.client.arq, kit.queue_key
    good = await pool.enqueue_job("add", 1, b=2, _job_id=f"{kit.queue}-1", _queue_name=queue)
    bad = await pool.enqueue_job("refuse", _queue_name=queue)
    later = await pool.enqueue_job("add", 2, b=2, _queue_name=queue, _defer_by=600)
    assert good is not None
    assert bad is not None
    assert later is not None
    assert await pool.enqueue_job("add", 5, 5, _job_id=good.job_id, _queue_name=queue) is None
    assert [await job.status() for job in (good, bad, later)] == [
        JobStatus.queued,
        JobStatus.queued,
        JobStatus.deferred,
    ]
    waiting = {each.job_id: each for each in await pool.queued_jobs(queue_name=queue)}
    assert waiting.keys() == {good.job_id, bad.job_id, later.job_id}
    told = waiting[good.job_id]
    assert (told.function, list(told.args), told.kwargs) == ("add", [1], {"b": 2})
    async with kit.worker():
        assert await good.result(timeout=15, poll_delay=0.02) == 3
        with pytest.raises(Refused, match="not today"):
            await bad.result(timeout=15, poll_delay=0.02)
        known = ArqJob(later.job_id, pool, queue, arq_deserializer)
        assert await known.abort(timeout=15, poll_delay=0.02)
    assert await good.status() is JobStatus.complete
    ended = {each.job_id: each.result for each in await pool.all_job_results()}
    assert ended[good.job_id] == 3
    assert {bad.job_id, later.job_id} <= ended.keys()
    with pytest.raises(ResultNotFound):
        await ArqJob(f"{kit.queue}-nobody", pool, queue, arq_deserializer).result(timeout=1)


async def test_running_job_is_aborted_as_by_arq(kit: Kit) -> None:
    @kit.registry.job()
    async def long() -> None:
        await asyncio.sleep(60)

    job = await kit.client.arq.enqueue_job("long", _queue_name=kit.queue_key)
    assert job is not None
    async with kit.worker():
        await kit.reaches(job.job_id, State.RUNNING)
        assert await job.status() is JobStatus.in_progress
        assert await job.abort(timeout=15, poll_delay=0.02)
    assert (await kit.client.find(job.job_id)).state is State.CANCELLED


async def test_arqs_worker_runs_what_was_enqueued_and_enqueues_more(kit: Kit) -> None:
    async def first(ctx: dict[str, Any], number: int) -> str:
        more = await ctx["redis"].enqueue_job("second", number + 1, _queue_name=kit.queue_key)
        return str(more.job_id)

    async def second(ctx: dict[str, Any], number: int) -> int:
        return number * 10

    @kit.registry.job(name="second")
    async def ours(number: int) -> int:
        raise AssertionError("arq's worker runs it")

    async with arqs_worker(kit, first, second) as worker:
        job = await kit.client.arq.enqueue_job("first", 1, _queue_name=kit.queue_key)
        assert job is not None
        following = await job.result(timeout=15, poll_delay=0.02)
        assert (await kit.ended(following)).result == 20
        handle = await kit.enqueue(ours, {"number": 3})
        assert await handle.result(timeout=15) == 30
        assert worker.pool is kit.client.arq


async def test_arqs_worker_that_ends_leaves_the_client_its_connections(kit: Kit) -> None:
    async def brief(ctx: dict[str, Any]) -> None: ...

    number = await kit.client.redis.client_id()
    async with arqs_worker(kit, brief) as worker:
        job = await kit.client.arq.enqueue_job("brief", _queue_name=kit.queue_key)
        assert job is not None
        await job.result(timeout=15, poll_delay=0.02)
        with pytest.warns(DeprecationWarning, match="aclose"):  # what arq says when it closes its pool
            await worker.close()
    assert number in {int(each["id"]) for each in await kit.client.redis.client_list()}


async def test_our_job_hands_it_to_code_for_arq(kit: Kit) -> None:
    async def plain(pool: ArqRedis) -> str:
        job = await pool.enqueue_job("second", 4, _queue_name=kit.queue_key)
        assert job is not None
        return job.job_id

    @kit.registry.job()
    async def second(number: int) -> int:
        return number + 1

    @kit.registry.job()
    async def first(ctx: Context) -> str:
        return await plain(ctx.client.arq)

    handle = await kit.enqueue(first)
    await kit.drain()
    assert (await kit.client.find(await handle.result(15))).result == 5


async def test_commands_of_redis_and_connections_of_its_own(kit: Kit) -> None:
    pool = kit.client.arq
    await pool.zadd(kit.queue, {"a": 1})
    async with pool.pipeline(transaction=True) as pipe:
        pipe.zscore(kit.queue, "a")
        pipe.delete(kit.queue)
        assert await pipe.execute() == [1.0, 1]
    async with pool.client() as alone:
        number = await alone.client_id()
        assert [await alone.client_id() for _ in range(3)] == [number] * 3
        job = await alone.enqueue_job("nobody_knows", _queue_name=kit.queue_key)
        assert job is not None

    async def is_free() -> bool:
        return bool(await pool.client_id() == number)

    await eventually(is_free)


async def test_what_arq_refuses_is_refused(client: Client, queue: str) -> None:
    with pytest.raises(CallRefused, match="must not hold"):
        await client.arq.enqueue_job("work", _job_id="schedule~x~5", _queue_name=f"arq:queue:{queue}")
