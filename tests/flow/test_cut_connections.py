"""An enqueue whose connection is cut at any byte either raises or is queued exactly once."""

import asyncio
from urllib.parse import urlsplit

import pytest

from tests.support import CuttingProxy, Kit
from worker import Client
from worker.broker.encoding import new_id, pack
from worker.broker.queue_store import QueueStore
from worker.core.errors import BrokerUnavailable
from worker.core.options import check_options

AT_ONCE = 10  # each waits a little before it tries again


async def enqueue_through(kit: Kit, port: int, job_id: str, proxy: CuttingProxy) -> bool:
    async with proxy.serve(), Client.open(f"redis://127.0.0.1:{proxy.port}/0", size=2) as client:
        definition = kit.registry.get("work")
        call = definition.call_with({"n": 1}, check_options("work", {"id": job_id, "queue": kit.queue}))
        return (await client.enqueue(call)).created


async def sizes(kit: Kit, port: int) -> list[int]:
    """How many bytes an enqueue sends and receives on a fresh connection."""
    proxy = CuttingProxy(port)
    await enqueue_through(kit, port, new_id(), proxy)
    return proxy.seen


@pytest.mark.parametrize("way", ["sent", "received"])
@pytest.mark.arq_defect(4)
async def test_enqueue_cut_at_every_byte_is_queued_once(kit: Kit, redis_url: str, way: str) -> None:
    @kit.registry.job()
    async def work(n: int) -> None: ...

    port = urlsplit(redis_url).port
    assert port is not None
    await enqueue_through(kit, port, new_id(), CuttingProxy(port))  # the script is loaded from here on
    total = (await sizes(kit, port))[way == "received"]
    assert total > 5
    before = await kit.client.redis.zcard(kit.queue_key)
    room = asyncio.Semaphore(AT_ONCE)

    async def cut_at(cut: int) -> None:
        proxy = CuttingProxy(port, **{f"cut_{way}": cut})
        job_id = f"{kit.queue}-{cut}"
        async with room:
            assert await enqueue_through(kit, port, job_id, proxy), f"cut after byte {cut}: said to exist already"
        assert await kit.client.redis.zscore(kit.queue_key, job_id) is not None, f"cut after byte {cut}: lost"

    await asyncio.gather(*map(cut_at, range(total + 1)))
    assert await kit.client.redis.zcard(kit.queue_key) == before + total + 1


async def test_enqueue_raises_when_redis_stays_away(kit: Kit) -> None:
    @kit.registry.job()
    async def work(n: int) -> None: ...

    async with Client.open("redis://127.0.0.1:1/0") as away:
        with pytest.raises(BrokerUnavailable, match="Redis is not available"):
            await away.enqueue(work.call(n=1))


async def test_retried_enqueue_of_a_job_that_already_ended_runs_nothing(kit: Kit) -> None:
    runs = []

    @kit.registry.job(result_ttl=0)
    async def work(n: int) -> None:
        runs.append(n)

    options = check_options("work", {"queue": kit.queue})
    job = pack(work.call_with({"n": 1}, options))
    assert await kit.client.queue_store.enqueue([job]) == [(job.id, True)]
    await kit.drain()
    assert await QueueStore(kit.client.redis).enqueue([job]) == [(job.id, True)]
    await kit.drain()
    assert runs == [1]
