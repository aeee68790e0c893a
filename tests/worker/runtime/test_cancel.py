import asyncio
import json
import threading
import time

import pytest
from arq.jobs import Job as ArqJob

from tests.support import Kit, eventually
from worker import Retry, State, Worker
from worker.broker.exchange import ClaimRequest
from worker.client.arq_compat import arq_deserializer
from worker.core import keys
from worker.core.errors import JobEnded, JobNotFound
from worker.execution.attempt import Stop
from worker.runtime.actions import Ask, Exchange
from worker.runtime.events import Answered


@pytest.mark.parametrize("delay", [0, 60])
async def test_waiting_job_is_cancelled_at_once(kit: Kit, delay: float) -> None:
    @kit.registry.job()
    async def never(numbers: list[int], big: int) -> None:
        raise AssertionError("it was cancelled")

    handle = await kit.enqueue(never, {"numbers": [], "big": 2**60 + 1}, delay=delay, tags=["x"])
    assert await handle.cancel() is State.CANCELLED
    await kit.drain()
    job = await handle.job()
    assert (job.state, job.args, job.tags) == (State.CANCELLED, {"numbers": [], "big": 2**60 + 1}, ("x",))
    assert job.queue == kit.queue
    assert job.attempts == ()
    assert await kit.client.redis.zcard(kit.queue_key) == 0
    assert await kit.client.redis.exists(keys.JOB + handle.id, keys.RUN + handle.id) == 0
    plain = ArqJob(handle.id, kit.client.arq, kit.queue_key, arq_deserializer)
    with pytest.raises(asyncio.CancelledError):
        await plain.result(timeout=1)
    info = await ArqJob(handle.id, kit.client.arq, kit.queue_key, json.loads).result_info()
    assert info is not None
    assert info.kwargs == {"numbers": [], "big": 2**60 + 1}


async def test_waiter_hears_of_the_cancellation(kit: Kit) -> None:
    @kit.registry.job()
    async def never() -> None: ...

    handle = await kit.enqueue(never, delay=60)
    waiting = asyncio.create_task(kit.client.wait_for(handle.id, 20))
    await asyncio.sleep(0.1)
    await handle.cancel()
    assert (await waiting).state is State.CANCELLED


async def test_running_job_is_cancelled_and_cleans_up(kit: Kit) -> None:
    cleaned = []

    @kit.registry.job()
    async def long() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.append(True)

    handle = await kit.enqueue(long)
    async with kit.worker():
        await kit.reaches(handle.id, State.RUNNING)
        started = time.monotonic()
        assert await handle.cancel() is State.RUNNING
        assert (await kit.ended(handle.id)).state is State.CANCELLED
        assert time.monotonic() - started < 1
    assert cleaned == [True]
    assert await kit.client.redis.zscore(keys.ABORT, handle.id) is None


@pytest.mark.parametrize("full", [True, False], ids=["full worker", "worker with room"])
async def test_plain_arqs_abort_stops_a_running_job_within_a_second(kit: Kit, full: bool) -> None:
    @kit.registry.job()
    async def long() -> None:
        await asyncio.sleep(60)

    handles = [await kit.enqueue(long) for _ in range(3)]
    async with kit.worker(concurrency=3 if full else 10, grace=0):
        for handle in handles:
            await kit.reaches(handle.id, State.RUNNING)
        started = time.monotonic()
        plain = ArqJob(handles[1].id, kit.client.arq, kit.queue_key, arq_deserializer)
        assert await plain.abort(timeout=10)
        assert time.monotonic() - started < 1.5
        assert (await kit.ended(handles[1].id)).state is State.CANCELLED
        assert [(await handles[n].job()).state for n in (0, 2)] == [State.RUNNING] * 2


async def test_running_thread_is_cancelled(kit: Kit) -> None:
    running = threading.Event()

    @kit.registry.job()
    def long() -> None:
        running.set()
        while True:
            time.sleep(0.01)

    handle = await kit.enqueue(long)
    async with kit.worker():
        await asyncio.to_thread(running.wait, 10)
        await handle.cancel()
        assert (await kit.ended(handle.id)).state is State.CANCELLED


async def test_job_waiting_to_retry_is_cancelled(kit: Kit) -> None:
    @kit.registry.job()
    async def shaky() -> None:
        raise Retry(delay=60)

    handle = await kit.enqueue(shaky)
    async with kit.worker():
        await kit.reaches(handle.id, State.RETRYING)
        assert await handle.cancel() is State.CANCELLED
    job = await handle.job()
    assert (job.state, job.tries, [t.outcome for t in job.attempts]) == (State.CANCELLED, 1, ["retry"])


async def test_cancelled_while_its_worker_is_away_it_does_not_start_again(kit: Kit) -> None:
    runs = []

    @kit.registry.job()
    async def work() -> None:
        runs.append(1)

    handle = await kit.enqueue(work)
    # A worker that took the job and fell silent: its lease ends soon.

    await kit.client.queue_store.exchange([], ClaimRequest("gone", 1, [kit.queue_key], 1, 200))
    assert await handle.cancel() is State.RUNNING
    async with kit.worker():
        assert (await kit.ended(handle.id)).state is State.CANCELLED
    assert runs == []


async def test_ended_and_unknown_jobs_cannot_be_cancelled(kit: Kit) -> None:
    @kit.registry.job()
    async def quick() -> None: ...

    handle = await kit.enqueue(quick)
    await kit.drain()
    with pytest.raises(JobEnded, match="succeeded"):
        await handle.cancel()
    with pytest.raises(JobNotFound):
        await kit.client.cancel("nobody")


async def test_job_that_returns_although_cancelled_is_cancelled(kit: Kit) -> None:
    @kit.registry.job()
    async def polite() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "as you wish"
        return "done"

    handle = await kit.enqueue(polite)
    async with kit.worker():
        await kit.reaches(handle.id, State.RUNNING)
        await handle.cancel()
        assert (await kit.ended(handle.id)).state is State.CANCELLED


@pytest.mark.parametrize(("stop", "state"), [(Stop.CANCELLED, State.CANCELLED), (Stop.HANDED_BACK, State.QUEUED)])
async def test_job_that_is_stopped_before_its_first_step_is_settled(kit: Kit, stop: Stop, state: State) -> None:
    @kit.registry.job()
    async def work() -> None: ...

    handle = await kit.enqueue(work, expires_in=60)
    _, claim = await kit.client.queue_store.exchange([], ClaimRequest("first", 1, [kit.queue_key], 1, 5000))
    assert claim is not None
    await kit.client.pause_queue(kit.queue)
    async with kit.worker() as worker:
        await eventually(lambda: waits(worker))
        brought = worker.claiming.brought(claim, time.monotonic() - worker.config.lease + 5)
        worker.runner.tell(Answered(Exchange((), Ask(1, 1), (), 0), [], brought, time.monotonic()))
        worker.runs[handle.id].cancel(stop)  # its task has not run yet
        assert (await kit.reaches(handle.id, state, 3)).state is state
        await eventually(lambda: settled(worker))


async def waits(worker: Worker) -> bool:
    return worker.state.wait is not None


async def settled(worker: Worker) -> bool:
    return not worker.runs
