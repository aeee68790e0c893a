"""Redis stands still (SIGSTOP) and cuts nothing: whoever asks is told in time, and leaves nothing behind."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import Kit, eventually
from worker import Client, Registry, State, chain
from worker.broker import completions as ends_module
from worker.core import keys
from worker.core.errors import BrokerUnavailable, Overloaded
from worker.dev import private_redis


@dataclass(frozen=True)
class Server:
    """A Redis that can be frozen."""

    kit: Kit
    pid: int

    @contextmanager
    def frozen(self) -> Iterator[None]:
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    with private_redis(tmp_path) as url:
        pid = int((tmp_path / "pid").read_text())
        async with Client.open(url, size=5, budget=2) as client:
            registry = Registry()
            registry.bind(client)
            yield Server(Kit(client, registry, "default"), pid)
            registry.bind(None)


async def seconds_until_refused(*calls: Awaitable[object]) -> float:
    began = time.monotonic()
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(outcome, BrokerUnavailable), outcome
    return time.monotonic() - began


def add_job(kit: Kit) -> Callable[[], Awaitable[object]]:
    @kit.registry.job()
    async def work() -> int:
        return 1

    return lambda: kit.enqueue(work)


async def test_wait_ends_in_time_and_leaves_nothing(server: Server) -> None:
    kit = server.kit
    enqueue = add_job(kit)
    await enqueue()
    (job_id,) = await kit.client.redis.zrange(kit.queue_key, 0, -1)
    tasks = len(asyncio.all_tasks())
    with server.frozen():
        assert await seconds_until_refused(kit.client.wait_for("a", 1)) < 2.0
        waits = [kit.client.wait_for(job_id.decode(), 0.5) for _ in range(50)]
        assert await seconds_until_refused(*waits) < 2.0
    assert kit.client._completions.waiting == 0
    assert await kit.client.find(job_id.decode())  # the connections work again
    assert len(asyncio.all_tasks()) <= tasks + 1  # the one that listens
    await eventually(lambda: no_channels(kit))


async def no_channels(kit: Kit) -> bool:
    return not await kit.client.redis.pubsub_channels(keys.DONE + "*")


async def test_wait_that_saw_the_job_tells_what_it_saw(server: Server) -> None:
    kit = server.kit
    await add_job(kit)()
    (job_id,) = await kit.client.redis.zrange(kit.queue_key, 0, -1)
    waiting = asyncio.create_task(kit.client.wait_for(job_id.decode(), 1))
    await eventually(lambda: channels(kit))
    await asyncio.sleep(0.1)  # its look after the subscription
    with server.frozen():
        began = time.monotonic()
        assert (await waiting).state is State.QUEUED
        assert time.monotonic() < began + 2


async def channels(kit: Kit) -> bool:
    return bool(await kit.client.redis.pubsub_channels(keys.DONE + "*"))


async def test_enqueue_gives_up_within_its_budget_however_many_wait(server: Server) -> None:
    kit = server.kit
    enqueue = add_job(kit)
    await enqueue()
    with server.frozen():
        assert await seconds_until_refused(enqueue()) < 2.6
        assert await seconds_until_refused(*(enqueue() for _ in range(100))) < 2.6
    async with kit.worker():
        await eventually(lambda: drained(kit))


async def drained(kit: Kit) -> bool:
    return not await kit.client.redis.zcard(kit.queue_key)


async def test_every_question_is_bounded_also_when_the_pool_is_used_up(server: Server) -> None:
    kit = server.kit
    add_job(kit)
    client = kit.client
    steps = chain(kit.registry.get("work").s(), kit.registry.get("work").si())
    await client.find((await kit.enqueue(kit.registry.get("work"))).id)
    with server.frozen():
        calls = [
            *(client.find("a") for _ in range(10)),
            client.cancel("a"),
            client.why("a"),
            client.pause_queue("q"),
            client.queues(),
            client.workers(),
            client.workflow("a"),
            client.wait_for_workflow("a"),
            client.wait_for("a"),
            client.cancel_workflow("a"),
            client.retry_workflow("a"),
            steps.enqueue(),
            client.enqueue_many([kit.registry.get("work").call()]),
        ]
        assert await seconds_until_refused(*calls) < 2.6
    await eventually(client.redis.ping)
    assert len(client.connections._in_use_connections) == 0


async def test_callers_that_go_leave_the_pool_whole(server: Server) -> None:
    kit = server.kit
    add_job(kit)
    with server.frozen():
        callers = [asyncio.create_task(kit.client.find("a")) for _ in range(30)]
        callers += [asyncio.create_task(kit.client.wait_for("a")) for _ in range(30)]
        await asyncio.sleep(0.2)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
    assert kit.client._completions.waiting == 0
    handles = await asyncio.gather(*(kit.enqueue(kit.registry.get("work")) for _ in range(50)))
    assert {(await kit.client.find(handle.id)).state for handle in handles} == {State.QUEUED}


async def test_subscription_notices_a_silent_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead peer without a word: the connection is given up, and who waits looks for himself."""
    monkeypatch.setattr(ends_module, "PING_EVERY", 0.2)
    kit = server.kit
    enqueue = add_job(kit)
    await enqueue()
    (job_id,) = await kit.client.redis.zrange(kit.queue_key, 0, -1)
    ends = kit.client._completions
    with ends.watch(job_id.decode()) as news:
        await eventually(lambda: channels(kit))
        first = ends._connection
        with server.frozen():
            await eventually(lambda: has(ends._connection is not first))
        async with asyncio.timeout(5):
            await news.wait()
        await eventually(lambda: has(ends._connection is not None))
        news.clear()
        await kit.client.cancel(job_id.decode())
        async with asyncio.timeout(5):
            await news.wait()


async def has(value: bool) -> bool:
    return value


async def test_waiters_are_bounded(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends_module, "MOST_WAITERS", 2)
    add_job(kit)
    handle = await kit.enqueue(kit.registry.get("work"))
    waits = [asyncio.create_task(kit.client.wait_for(handle.id, 1)) for _ in range(3)]
    outcomes = await asyncio.gather(*waits, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes].count(Overloaded) == 1
    assert kit.client._completions.waiting == 0
