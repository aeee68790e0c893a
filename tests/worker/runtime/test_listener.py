"""Which wait a worker leaves in Redis: with a claim behind it while it is idle, without one while a job runs."""

import asyncio
import signal
import time
from unittest.mock import ANY
from urllib.parse import urlsplit

import pytest

from tests.support import CuttingProxy, Gauge, Kit, eventually
from worker import Client, Context, State, Worker
from worker.core import keys
from worker.runtime.actions import Wait
from worker.runtime.events import BreakOffTried, Waited
from worker.runtime.state import Phase


async def stands(worker: Worker) -> bool:
    return worker.state.wait is not None and worker.state.wait.ask is not None


async def only_waits(worker: Worker) -> bool:
    return worker.state.wait is not None and worker.state.wait.ask is None


async def test_claim_stands_while_the_worker_is_idle_only(kit: Kit) -> None:
    go = asyncio.Event()

    @kit.registry.job()
    async def hold() -> None:
        await go.wait()

    async with kit.worker() as worker:
        await eventually(lambda: stands(worker))
        handle = await kit.enqueue(hold)
        await kit.reaches(handle.id, State.RUNNING)
        await eventually(lambda: only_waits(worker), 1)
        go.set()
        await kit.ended(handle.id)
        await eventually(lambda: stands(worker), 1)


async def test_job_comes_with_its_token(kit: Kit) -> None:
    """By a claim that was there before the job, not by one that was made when the token had come."""

    @kit.registry.job()
    async def claim_number(ctx: Context) -> int:
        return int(worker.runs[ctx.job_id].claimed.token.rpartition(":")[2])

    async with kit.worker(poll=30.0) as worker:
        for _ in range(20):
            await eventually(lambda: stands(worker))
            claims = worker.state.claims.last
            assert await (await kit.enqueue(claim_number)).result(5) <= claims


async def test_worker_with_one_slot_takes_one_job_at_a_time(kit: Kit) -> None:
    running = Gauge()

    @kit.registry.job()
    async def work() -> None:
        with running:
            await asyncio.sleep(0.01)

    async with kit.worker(concurrency=1) as worker:
        await eventually(lambda: only_waits(worker))
        handles = [await kit.enqueue(work) for _ in range(20)]
        for handle in handles:
            assert (await kit.ended(handle.id)).tries == 1
    assert running.most == 1


@pytest.mark.parametrize("concurrency", [2, 3])
async def test_slot_of_a_blocking_claim_is_kept(kit: Kit, concurrency: int) -> None:
    """Jobs that come without a token, when the claim stands, leave it its slot."""
    running = Gauge()

    @kit.registry.job()
    async def work() -> None:
        with running:
            await asyncio.sleep(0.05)

    async with kit.worker(concurrency=concurrency, poll=0.1) as worker:
        for _ in range(5):
            await eventually(lambda: stands(worker))
            handles = [await kit.enqueue(work, delay=0.3) for _ in range(concurrency + 2)]
            await asyncio.sleep(0.25)
            for _ in range(10):
                handles.append(await kit.enqueue(work))
                await asyncio.sleep(0.01)
            for handle in handles:
                assert (await kit.ended(handle.id)).tries == 1
    assert running.most == concurrency


async def test_idle_worker_stops_at_once_and_takes_nothing_along(kit: Kit) -> None:
    @kit.registry.job()
    async def work() -> None: ...

    async with kit.worker() as worker:
        await eventually(lambda: stands(worker))
        began = time.monotonic()
        worker.handle_sig(signal.SIGTERM)
        await eventually(lambda: ended(worker), 2)
        assert time.monotonic() - began < 1
        handle = await kit.enqueue(work)
        assert (await handle.job()).state is State.QUEUED
        assert not await kit.client.redis.exists(keys.LEASE + handle.id)


async def ended(worker: Worker) -> bool:
    return worker.state.phase is Phase.GONE


async def test_wait_goes_on_after_its_connection_was_cut(kit: Kit) -> None:
    @kit.registry.job()
    async def work() -> None: ...

    async with kit.worker(poll=30.0) as worker:
        await eventually(lambda: stands(worker))

        async def is_connected() -> bool:
            return bool(worker.runner._listener.client_id)

        await eventually(is_connected)
        await kit.client.redis.client_kill_filter(_id=str(worker.runner._listener.client_id))
        await eventually(lambda: stands(worker))
        assert (await kit.ended((await kit.enqueue(work)).id, 5)).worker == worker.id


async def test_wait_that_still_connects_is_broken_off_once_it_has(kit: Kit, redis_url: str) -> None:
    """What is asked meanwhile is answered then: the planner would ask again every 10 ms."""

    @kit.registry.job()
    async def work() -> None: ...

    heard: list[object] = []
    async with (
        CuttingProxy(urlsplit(redis_url).port or 0).serve() as proxy,
        Client.open(f"redis://127.0.0.1:{proxy.port}") as behind,
    ):
        listener = Worker(behind, kit.registry, kit.config()).runner._listener
        proxy.passes.clear()
        waiting = asyncio.create_task(listener.wait(Wait(None), heard.append))
        breaking = asyncio.create_task(listener.break_off(heard.append))
        await asyncio.sleep(0.2)
        assert heard == []
        proxy.passes.set()
        await asyncio.wait_for(breaking, 20)
        began = time.monotonic()
        while not waiting.done():
            await listener.break_off(heard.append)
            await asyncio.sleep(0.01)
        assert time.monotonic() - began < 4  # it blocks for five
        await listener.close()
    assert heard[0] == BreakOffTried(again=True, at=ANY)
    assert any(isinstance(each, Waited) for each in heard)


async def test_blocking_claim_loads_a_script_that_the_server_forgot(kit: Kit) -> None:
    @kit.registry.job()
    async def work() -> None: ...

    async with kit.worker(poll=30.0) as worker:
        await eventually(lambda: stands(worker))
        await kit.client.redis.script_flush()
        assert (await kit.ended((await kit.enqueue(work)).id, 5)).worker == worker.id


@pytest.mark.parametrize("command", ["client|id", "client|unblock"])
async def test_server_that_does_not_let_us_break_off(kit: Kit, redis_url: str, command: str) -> None:
    """Waits end by themselves then, after a third of a lease."""

    @kit.registry.job()
    async def work() -> None: ...

    name = f"user{kit.queue}"
    await kit.client.redis.execute_command("ACL", "SETUSER", name, "on", ">secret", "~*", "&*", "+@all", f"-{command}")
    async with Client.open(redis_url.replace("://", f"://{name}:secret@")) as client:
        limited = Kit(client, kit.registry, kit.queue)
        async with limited.worker(lease=1.0) as worker:
            await eventually(lambda: stands(worker))
            for _ in range(3):
                await kit.ended((await limited.enqueue(work)).id, 5)
            began = time.monotonic()
            await eventually(lambda: stands(worker))
            worker.handle_sig(signal.SIGTERM)
            await eventually(lambda: ended(worker), 5)
            assert time.monotonic() - began < 2
    await kit.client.redis.execute_command("ACL", "DELUSER", name)
