"""Queues of plain arq whose sorted set is not called as ours are: `key=sky:default`."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import arq
import pytest
from arq.connections import ArqRedis, RedisSettings
from arq.jobs import JobStatus
from arq.worker import Worker as ArqWorker
from arq.worker import func
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.support import Kit
from worker import Client, Context, Priority, Registry, Retry, State, chain, every
from worker.broker.exchange import Claimed, ClaimRequest
from worker.broker.inspect import QueueRecord
from worker.broker.opening import blocking_connection
from worker.broker.queue_selection import Service
from worker.broker.queue_store import Renewal
from worker.client.arq_compat import arq_deserializer, arq_serializer
from worker.core import keys
from worker.core.errors import CallRefused, InvalidOptions
from worker.core.options import check_options
from worker.history.reader import History, Query
from worker.history.writer import HistoryWriter
from worker.runtime.scheduler import Scheduler
from worker.settings import Settings


@pytest.fixture
def key() -> str:
    return f"sky:{uuid.uuid4().hex[:12]}"


@pytest.fixture
def kit(client: Client, registry: Registry, key: str) -> Kit:
    """Of a queue that is named by its key."""
    registry.bind(client)
    return Kit(client, registry, f"key={key}")


@pytest.fixture
def alone(own_redis: Client, registry: Registry, key: str) -> Kit:
    """Of a queue that is named by its key, on a server where nothing waits that other tests left."""
    registry.bind(own_redis)
    return Kit(own_redis, registry, f"key={key}")


@pytest.fixture
async def plain(redis_url: str, key: str) -> AsyncIterator[ArqRedis]:
    """A client of plain arq that knows the queue by its own name."""
    pool = await arq.create_pool(
        RedisSettings.from_dsn(redis_url),
        job_serializer=arq_serializer,
        job_deserializer=arq_deserializer,
        default_queue_name=key,
    )
    yield pool
    await pool.aclose(close_connection_pool=True)


@given(st.text(max_size=30) | st.text("arq:queue!highlow-default.key=", max_size=30), st.sampled_from(Priority))
def test_every_key_has_one_name_and_level(text: str, priority: Priority) -> None:
    for key in (text, f"arq:queue:{text}", f"arq:queue{text}", f"{text}!{priority}"):
        assert keys.queue_key(*keys.parse_queue_key(key)) == key


@pytest.mark.parametrize(
    ("key", "name", "priority"),
    [
        ("arq:queue", "default", "normal"),
        ("arq:queue!low", "default", "low"),
        ("arq:queue:emails", "emails", "normal"),
        ("arq:queue:emails!high", "emails", "high"),
        ("arq:queue:default", "key=arq:queue:default", "normal"),
        ("arq:queue:a:b", "key=arq:queue:a:b", "normal"),
        ("arq:queues", "key=arq:queues", "normal"),
        ("sky:default", "key=sky:default", "normal"),
        ("sky:default!low", "key=sky:default", "low"),
        ("sky!normal", "key=sky!normal", "normal"),
        ("high", "key=high", "normal"),
    ],
)
def test_names_of_keys(key: str, name: str, priority: str) -> None:
    assert keys.parse_queue_key(key) == (name, Priority(priority))


@pytest.mark.parametrize(
    "queue", ["key=sky:default", "key=a", "key={tag}:q", "key=arq:high", "key=a/b@c", "key=arq:queue:a:b"]
)
def test_queues_may_be_named_by_their_keys(queue: str) -> None:
    assert check_options("x", {"queue": queue}) == {"queue": queue}
    assert Service.read([queue, "default"]).keys(1)[0] == queue.removeprefix("key=") + "!high"


@pytest.mark.parametrize(
    ("queue", "told"),
    [
        ("key=", "pattern"),
        ("key=a b", "pattern"),
        ("key=a,b", "pattern"),
        ("key=a!high", "pattern"),
        ("key=*", "pattern"),
        ("key=a\n", "pattern"),
        ("key=é", "pattern"),
        (f"key={'x' * 201}", "pattern"),
        ("sky:default", "pattern"),
        ("key=embarq:workers", "keeps something else"),
        ("key=embarq:", "keeps something else"),
        ("key=arq:job:1", "keeps something else"),
        ("key=arq:in-progress:1", "keeps something else"),
        ("key=arq:retry:1", "keeps something else"),
        ("key=arq:result:1", "keeps something else"),
        ("key=arq:abort", "keeps something else"),
        ("key=sky:health-check", "keeps something else"),
        ("key=arq:queue:health-check", "keeps something else"),
        ("key=arq:queue", "must be 'default'"),
        ("key=arq:queue:emails", "must be 'emails'"),
    ],
)
def test_keys_that_are_no_queues_are_refused(queue: str, told: str) -> None:
    with pytest.raises(InvalidOptions, match=told):
        check_options("x", {"queue": queue})
    with pytest.raises(InvalidOptions):
        Service.read([queue, "default"])


def test_weights_and_routes_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service.read(["key=sky:default", "emails:3"])
    assert (service.queues, service.weights) == (("key=sky:default", "emails"), (1.0, 3.0))
    monkeypatch.setenv("EMBARQ_ROUTES", "jobs.sky.*=key=sky:default,jobs.b=b")
    monkeypatch.setenv("EMBARQ_QUEUES", "key=sky:default,default")
    settings = Settings.load()
    assert settings.routes == (("jobs.sky.*", "key=sky:default"), ("jobs.b", "b"))
    assert settings.queues == ("key=sky:default", "default")


async def test_plain_client_to_our_worker_and_back(kit: Kit, plain: ArqRedis, key: str) -> None:
    @kit.registry.job()
    async def add(ctx: Context, a: int, b: int) -> list[Any]:
        if ctx.try_number == 1:
            raise Retry(delay=0.05)
        return [a + b, ctx.queue]

    job = await plain.enqueue_job("add", 1, b=2)
    by_ours = await kit.client.arq.enqueue_job("add", 3, b=4, _queue_name=key)
    assert job is not None
    assert by_ours is not None
    async with kit.worker():
        assert await job.result(timeout=15, poll_delay=0.02) == [3, f"key={key}"]
        assert await by_ours.result(timeout=15, poll_delay=0.02) == [7, f"key={key}"]
    assert await job.status() is JobStatus.complete
    info = await job.result_info()
    assert info is not None
    assert (info.queue_name, info.job_try) == (key, 2)
    assert (await kit.client.find(job.job_id)).queue == f"key={key}"
    assert await kit.client.redis.zcard(key) == 0


async def test_our_client_to_a_plain_worker(kit: Kit, plain: ArqRedis, key: str) -> None:
    async def add(ctx: dict[str, Any], a: int, b: int) -> int:
        return a + b

    @kit.registry.job(name="add", queue=kit.queue)
    async def ours(a: int, b: int) -> int:
        raise AssertionError("the plain worker runs it")

    handle = await ours.enqueue(1, 2)
    worker = ArqWorker(
        [func(add, name="add")],
        redis_pool=plain,
        queue_name=key,
        burst=True,
        job_serializer=arq_serializer,
        job_deserializer=arq_deserializer,
        handle_signals=False,
        poll_delay=0.05,
    )
    await worker.async_run()
    assert await handle.result(15) == 3


async def test_plain_abort(kit: Kit, plain: ArqRedis) -> None:
    @kit.registry.job()
    async def long() -> None:
        await asyncio.sleep(60)

    job = await plain.enqueue_job("long")
    assert job is not None
    async with kit.worker(lease=3):
        await kit.reaches(job.job_id, State.RUNNING)
        assert await job.abort(timeout=15, poll_delay=0.02) is True
    assert (await kit.client.find(job.job_id)).state is State.CANCELLED


async def test_token_wakes_an_idle_worker(kit: Kit) -> None:
    @kit.registry.job()
    async def work() -> int:
        return 1

    async with kit.worker(poll=60, lease=60):
        await asyncio.sleep(0.3)
        handle = await kit.enqueue(work)
        assert await handle.result(15) == 1


async def test_pause_purge_levels_and_stats(kit: Kit, key: str) -> None:
    @kit.registry.job()
    async def work() -> None: ...

    async def stats() -> QueueRecord:
        (found,) = [each for each in await kit.client.queues() if each.queue == kit.queue]
        return found

    high = await kit.enqueue(work, priority="high")
    handles = [await kit.enqueue(work) for _ in range(3)]
    assert await kit.client.redis.zrange(f"{key}!high", 0, -1) == [high.id.encode()]
    assert await kit.client.pause_queue(kit.queue)
    found = await stats()
    assert (found.paused, found.waiting) == (True, 4)
    assert "queue_paused" in {reason.kind for reason in await kit.client.why(handles[0].id)}
    assert await kit.client.purge_queue(kit.queue) == 4
    assert await kit.client.resume_queue(kit.queue)
    assert {await handle.state() for handle in handles} == {State.CANCELLED}


async def test_worker_of_all_queues_serves_it(alone: Kit) -> None:
    @alone.registry.job()
    async def work() -> int:
        return 1

    handle = await alone.enqueue(work)
    everything = Kit(alone.client, alone.registry, "*")
    async with everything.worker():
        assert await handle.result(30) == 1


async def test_workflow_schedule_and_unique_calls(kit: Kit, key: str) -> None:
    @kit.registry.job(queue=kit.queue, name=f"add-{key[4:]}")
    async def add(a: int, b: int = 1) -> int:
        return a + b

    kit.registry.schedule(every(3600), args={"a": 5})(add)
    fire = Scheduler(kit.client.schedules, kit.registry)
    await fire.declare()
    await kit.client.redis.zadd(keys.SCHEDULES_DUE, {add.name: 1})
    await fire.run_once()
    flow = await chain(add.s(1), add.s()).enqueue()
    first = await kit.enqueue(add, {"a": 1}, debounce=0.1)
    again = await kit.enqueue(add, {"a": 1}, debounce=0.1)
    assert (again.id, again.created) == (first.id, False)
    async with kit.worker():
        assert await flow.result(15) == 3
        assert await again.result(15) == 2
        last = (await fire.find(add.name)).last_job
        assert last is not None
        assert (await kit.ended(last)).result == 6


async def test_job_that_lost_its_place_is_requeued(kit: Kit, key: str) -> None:
    @kit.registry.job()
    async def work() -> int:
        return 1

    handle = await kit.enqueue(work)
    await kit.client.redis.zrem(key, handle.id)
    assert await handle.state() is State.QUEUED
    await kit.drain()
    assert await handle.result(15) == 1


async def test_worker_refuses_to_start_where_the_key_is_something_else(kit: Kit, key: str) -> None:
    @kit.registry.job()
    async def work() -> None: ...

    await kit.client.redis.set(key, "somebody's")
    with pytest.raises(InvalidOptions, match=f"'{key}' must be free or hold a queue, and holds a string in this Redis"):
        await kit.drain()
    assert await kit.client.redis.get(key) == b"somebody's"


async def test_key_that_becomes_something_else_is_left_alone_and_holds_up_nothing(kit: Kit, key: str) -> None:
    other = Kit(kit.client, kit.registry, f"{kit.queue}-other")
    go_on = asyncio.Event()

    @kit.registry.job()
    async def work() -> int:
        return 1

    @kit.registry.job()
    async def again(ctx: Context) -> int:
        await go_on.wait()
        if ctx.try_number == 1:
            raise Retry(delay=0)
        return ctx.try_number

    tried = await kit.enqueue(again)
    async with kit.worker(queues=(kit.queue, other.queue, "default")):
        await kit.reaches(tried.id, State.RUNNING)
        await kit.client.redis.delete(key)
        await kit.client.redis.execute_command("HSET", key, "field", "somebody's")
        go_on.set()
        assert await (await other.enqueue(work)).result(20) == 1
        assert await tried.result(20) == 2, "it goes on in the default queue"
        with pytest.raises(CallRefused, match="must be a sorted set"):
            await kit.enqueue(work)
        assert await kit.client.purge_queue(kit.queue) == 0
    assert await kit.client.redis.execute_command("HGET", key, "field") == b"somebody's"


async def somebody_takes(kit: Kit, key: str) -> None:
    await kit.client.redis.delete(key)
    await kit.client.redis.execute_command("HSET", key, "field", "somebody's")


@pytest.fixture(params=["sky", "arq"])
async def turned(request: pytest.FixtureRequest, kit: Kit, key: str) -> AsyncIterator[Kit]:
    """Of a queue whose key comes to be something else; `arq:` alone makes it none of ours."""
    name = key.replace("sky:", f"{request.param}:")
    yield Kit(kit.client, kit.registry, f"key={name}")
    await kit.client.redis.zremrangebyscore(keys.QUEUE, "-inf", "+inf")


async def test_job_ends_whose_queue_has_become_something_else_and_its_workflow_goes_on(turned: Kit) -> None:
    runs, go_on = asyncio.Event(), asyncio.Event()

    @turned.registry.job(queue=turned.queue)
    async def work(value: int) -> int:
        runs.set()
        await go_on.wait()
        return value + 1

    flow = await chain(work.s(1), work.s()).enqueue()
    async with turned.worker(queues=(turned.queue, "default")):
        await asyncio.wait_for(runs.wait(), 20)
        await somebody_takes(turned, turned.queue_key)
        go_on.set()
        assert await flow.result(20) == 3
    assert await turned.client.redis.execute_command("HGET", turned.queue_key, "field") == b"somebody's"


async def test_lease_is_renewed_in_the_default_queue(turned: Kit) -> None:
    """So that the job is found where its worker dies."""

    @turned.registry.job()
    async def work() -> None: ...

    handle = await turned.enqueue(work)
    held = await claimed(turned, "mine", 1)
    await somebody_takes(turned, turned.queue_key)
    assert (await turned.client.queue_store.renew(60_000, [Renewal(held)])).lost == []
    assert await turned.client.redis.zscore(keys.QUEUE, handle.id)
    assert await turned.client.redis.execute_command("HGET", turned.queue_key, "field") == b"somebody's"


async def test_claim_that_nobody_heard_of_is_given_back_to_the_default_queue(turned: Kit) -> None:
    @turned.registry.job()
    async def work() -> None: ...

    handle = await turned.enqueue(work)
    await claimed(turned, "deaf", 1)
    await somebody_takes(turned, turned.queue_key)
    await turned.client.queue_store.exchange([], None, ("deaf", (1,)))
    assert (await handle.state()) is State.QUEUED
    assert await turned.client.redis.zscore(keys.QUEUE, handle.id)
    assert await turned.client.redis.execute_command("HGET", turned.queue_key, "field") == b"somebody's"


async def claimed(kit: Kit, worker: str, number: int) -> Claimed:
    """The one job that a claim brings."""
    request = ClaimRequest(worker, number, [kit.queue_key], 10, 60_000)
    _, found = await kit.client.queue_store.exchange([], request)
    assert found is not None
    (job,) = found.jobs
    return job


@pytest.mark.parametrize("name", [keys.WORKERS, keys.SCHEDULES_DUE, keys.ABORT, "arq:job:x", "sky:health-check"])
async def test_other_keys_of_ours_and_arqs_are_no_queues_to_any_client(kit: Kit, name: str) -> None:
    before = await kit.client.redis.exists(name)
    with pytest.raises(CallRefused, match="no other key of arq or Embarq"):
        await kit.client.arq.enqueue_job("work", _queue_name=name)
    assert await kit.client.redis.exists(name) == before


async def test_payload_that_names_another_key_as_its_queue_moves_nothing_there(kit: Kit) -> None:
    """Its queue is found by looking, and what is under another key of ours stays as it is."""
    payload: dict[str, Any] = {"t": None, "f": "work", "a": [], "k": {}, "et": 1, "o": {"z": keys.WORKERS}}
    job_id = f"{kit.queue[8:]}-hostile"
    await kit.client.redis.zadd(keys.WORKERS, {job_id: 9e15})
    await kit.client.redis.set(keys.JOB + job_id, json.dumps(payload))
    assert (await kit.client.find(job_id)).queue == "default"
    assert await kit.client.cancel(job_id) is State.CANCELLED
    assert await kit.client.redis.zscore(keys.WORKERS, job_id) == 9e15
    await kit.client.redis.zrem(keys.WORKERS, job_id)


async def test_history_has_the_same_names(alone: Kit, migrated: AsyncEngine, key: str) -> None:
    @alone.registry.job()
    async def work() -> None: ...

    names = {alone.queue, "default", f"{key[4:]}.emails", f"key=arq:queue:{key}"}
    writer = HistoryWriter(migrated, alone.client.connections, f"w-{key}", 30)
    async with blocking_connection(alone.client.connections) as redis:
        await writer._stream.announce()
        handles = [await alone.enqueue(work, queue=queue, priority="high") for queue in names]
        async with alone.worker(queues=tuple(names)):
            for handle in handles:
                await alone.ended(handle.id, 30)
        history = History(migrated)
        async with asyncio.timeout(30):
            while len((await history.list(Query(job="work"))).jobs) < len(names):
                await writer.write_once(redis)
    for handle in handles:
        kept, known = await history.find(handle.id), await handle.job()
        assert (kept.queue, kept.priority) == (known.queue, known.priority)
    assert {(await handle.job()).queue for handle in handles} == names
