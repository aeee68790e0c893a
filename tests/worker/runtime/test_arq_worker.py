"""Our worker as arq's: code that was written for that works with it."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

import pytest
from arq.worker import FailedJobs
from arq.worker import Worker as PlainWorker

from tests.support import Kit, eventually
from worker import ArqWorker, Retry, State


async def run_for(worker: PlainWorker, meanwhile: Coroutine[Any, Any, object]) -> None:
    """As programs do that have an arq worker among other things."""
    working = asyncio.create_task(worker.async_run())
    try:
        async with asyncio.timeout(30):
            await meanwhile
    finally:
        await worker.close()
        await working


def made(kit: Kit, **config: Any) -> ArqWorker:
    return ArqWorker(kit.client, kit.registry, kit.config(**config))


async def test_it_is_arqs_worker_and_counts_as_that_does(kit: Kit) -> None:
    @kit.registry.job()
    async def work(how: str, *, tries: int = 1) -> str:
        if how == "fail":
            raise ValueError("broken")
        return how

    @kit.registry.job()
    async def again() -> None:
        raise Retry(delay=30)

    worker: PlainWorker = made(kit)
    assert isinstance(worker, PlainWorker)
    assert set(worker.functions) == {"work", "again"}
    assert (worker.queue_name, worker.max_jobs, worker.burst, worker.pool) == (
        kit.queue_key,
        100,
        False,
        kit.client.arq,
    )

    async def meanwhile() -> None:
        assert await (await kit.enqueue(work, {"how": "well"})).result(20) == "well"
        await kit.ended((await kit.enqueue(work, {"how": "fail"})).id)
        await kit.reaches((await kit.enqueue(again)).id, State.RETRYING)

        async def counted() -> bool:
            return (worker.jobs_complete, worker.jobs_failed, worker.jobs_retried) == (1, 1, 1)

        await eventually(counted)

    await run_for(worker, meanwhile())
    assert repr(worker) == "<Worker j_complete=1 j_failed=1 j_retried=1 j_ongoing=0>"


async def test_burst_checks_its_jobs(kit: Kit) -> None:
    @kit.registry.job()
    async def work(n: int) -> int:
        return 1 // n

    await kit.enqueue(work, {"n": 1})
    assert await made(kit, burst=True).run_check() == 1
    await kit.enqueue(work, {"n": 0})
    with pytest.raises(FailedJobs) as failed:
        await made(kit, burst=True).run_check()
    assert failed.value.count == 1


async def test_signal_gives_running_jobs_their_grace_and_tasks_show_them(kit: Kit) -> None:
    inside, go = asyncio.Event(), asyncio.Event()

    @kit.registry.job()
    async def long() -> str:
        inside.set()
        await go.wait()
        return "done"

    handle = await kit.enqueue(long)
    worker = made(kit, grace=20.0)
    working = asyncio.create_task(worker.async_run())
    await asyncio.wait_for(inside.wait(), 20)
    assert list(worker.tasks) == [handle.id]
    worker.handle_sig(signal.SIGTERM)
    go.set()
    await asyncio.wait_for(working, 20)
    assert (await handle.job()).result == "done"
    assert worker.tasks == {}


async def test_close_stops_it(kit: Kit) -> None:
    @kit.registry.job()
    async def work() -> None: ...

    worker = made(kit)
    await worker.close()  # it has not begun
    working = asyncio.create_task(worker.async_run())
    await asyncio.sleep(0.2)
    await asyncio.wait_for(worker.close(), 20)
    assert working.done()
    await kit.client.redis.ping()
