"""A burst does not wait for jobs that it does not know."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.support import Kit, logged, start_embarq
from worker import Priority, Registry, State, Worker, WorkerConfig
from worker.core import keys

# A burst that waits for a job that nobody knows ends after 600 s.
WITHIN = 30


async def stranger(kit: Kit, name: str = "stranger") -> str:
    job = await kit.client.arq.enqueue_job(name, _queue_name=kit.queue_key)
    assert job is not None
    return job.job_id


async def test_burst_leaves_what_it_does_not_know_and_says_so(kit: Kit) -> None:
    @kit.registry.job()
    async def work() -> str:
        return "done"

    left = [await stranger(kit), await stranger(kit), await stranger(kit, "another")]
    known = await kit.enqueue(work)
    with logged("embarq.worker") as lines:
        await kit.drain()
    assert (await kit.client.find(known.id)).state is State.SUCCEEDED
    for job_id in left:
        job = await kit.client.find(job_id)
        assert job.state in {State.DEFERRED, State.QUEUED}
        assert job.tries == 0
    (line,) = [line for line in lines if line["event"] == "burst leaves jobs that it does not know"]
    assert line["jobs"] == 3
    assert line["names"] == {"stranger": 2, "another": 1}


async def test_burst_waits_for_what_it_knows_beside_what_it_does_not(kit: Kit) -> None:
    @kit.registry.job(aliases=("former",))
    async def work() -> None: ...

    await stranger(kit)
    late = await kit.enqueue(work, delay=2)
    former = await stranger(kit, "former")
    await kit.drain()
    assert (await kit.client.find(late.id)).state is State.SUCCEEDED
    assert (await kit.client.find(former)).state is State.SUCCEEDED


async def test_burst_waits_for_a_job_that_another_worker_runs(kit: Kit) -> None:
    @kit.registry.job()
    async def slow() -> None:
        await asyncio.sleep(2)

    await stranger(kit)
    async with kit.worker():
        running = await kit.enqueue(slow)
        await kit.reaches(running.id, State.RUNNING)
        await kit.drain()
        assert (await kit.client.find(running.id)).state is State.SUCCEEDED


async def test_burst_leaves_thousands(kit: Kit) -> None:
    @kit.registry.job()
    async def work() -> None: ...

    others = Registry()

    @others.job()
    async def elsewhere(n: int) -> None: ...

    others.bind(kit.client)
    levels = list(Priority)
    calls = [elsewhere.options(queue=kit.queue, priority=levels[n % 3]).call(n) for n in range(3000)]
    handles = await kit.client.enqueue_many(calls)
    known = await kit.enqueue(work)
    begun = time.monotonic()
    with logged("embarq.worker") as lines:
        await kit.drain(concurrency=100)
    assert time.monotonic() - begun < WITHIN
    assert (await kit.client.find(known.id)).state is State.SUCCEEDED
    assert [line["jobs"] for line in lines if line["event"].startswith("burst leaves")] == [3000]
    assert await kit.client.purge_queue(kit.queue) == len(handles)


async def test_burst_leaves_paused_queues_alone(kit: Kit) -> None:
    @kit.registry.job()
    async def work() -> None: ...

    paused = f"{kit.queue}-paused"
    waits = await kit.client.enqueue(work.call_with({}, {"queue": paused}))
    await kit.client.pause_queue(paused)
    await stranger(kit)
    worker = Worker(kit.client, kit.registry, WorkerConfig(queues=(kit.queue, paused), burst=True))
    async with asyncio.timeout(WITHIN):
        await worker.async_run()
    assert (await kit.client.find(waits.id)).state is State.QUEUED
    await kit.client.resume_queue(paused)
    await kit.client.purge_queue(paused)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"t": null, "f": "stranger", "a": [], "k": {}, "et": 1}',
        b'{"t":null,"f":"stranger","a":["' + b"x" * 100_000 + b'"],"k":{},"et":1}',
        b'{"k": {}, "a": [], "et": 1, "t": 1, "f": "stranger"}',
    ],
)
async def test_name_is_read_however_a_client_wrote_it(kit: Kit, payload: bytes) -> None:
    await kit.client.redis.set(keys.JOB + kit.queue, payload)
    await kit.client.redis.zadd(kit.queue_key, {kit.queue: 1})
    assert [name async for name in kit.client.inspector.names(kit.queue_key)] == ["stranger"]
    await kit.client.redis.delete(kit.queue_key, keys.JOB + kit.queue)


async def test_what_cannot_be_read_is_not_left(kit: Kit) -> None:
    @kit.registry.job()
    async def work() -> None: ...

    await kit.client.redis.set(keys.JOB + kit.queue, b"no JSON")
    await kit.client.redis.zadd(kit.queue_key, {kit.queue: 1})
    assert [name async for name in kit.client.inspector.names(kit.queue_key)] == [""]
    await kit.drain()
    assert (await kit.client.find(kit.queue)).state is State.FAILED


async def test_command_ends_well(kit: Kit, redis_url: str, tmp_path: Path) -> None:
    await stranger(kit)
    log = tmp_path / "log"
    process = start_embarq("worker", "--burst", "-Q", kit.queue, log=log, REDIS_URL=redis_url)
    try:
        code = await asyncio.to_thread(process.wait, WITHIN)
    finally:
        process.kill()
    assert code == 0, log.read_text()
    assert "burst leaves jobs that it does not know" in log.read_text()
