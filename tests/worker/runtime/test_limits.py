import asyncio
import contextlib
import threading
import time

import pytest

from tests.support import Kit, logged
from worker import Context, RetryPolicy, SoftTimeLimitExceeded, State
from worker.core.errors import TimeLimitExceeded
from worker.execution.attempt import Interruptible


async def test_soft_limit_is_caught_for_a_partial_result(kit: Kit) -> None:
    @kit.registry.job(soft_timeout=0.1, timeout=30)
    async def report() -> str:
        try:
            await asyncio.sleep(20)
        except SoftTimeLimitExceeded:
            await asyncio.sleep(0.05)
            return "partial"
        return "whole"

    handle = await kit.enqueue(report)
    await kit.drain()
    assert await handle.result(timeout=15) == "partial"


@pytest.mark.arq_defect(11)
async def test_soft_limit_uncaught_fails_and_can_be_retried(kit: Kit) -> None:
    @kit.registry.job(timeout=30)
    async def slow() -> None:
        await asyncio.sleep(20)

    @kit.registry.job(timeout=30, max_tries=2, retry=RetryPolicy(on=(SoftTimeLimitExceeded,), delay=0))
    async def again() -> None:
        await asyncio.sleep(20)

    first, second = await kit.enqueue(slow, soft_timeout=0.1), await kit.enqueue(again, soft_timeout=0.1)
    await kit.drain()
    job = await first.job()
    assert job.error is not None
    assert (job.state, job.error.type) == (State.FAILED, "SoftTimeLimitExceeded")
    assert "await asyncio.sleep(20)" in (job.error.traceback or "")
    assert (await second.job()).tries == 2


async def test_soft_limit_reaches_through_a_task_group(kit: Kit) -> None:
    ended = []

    @kit.registry.job(soft_timeout=0.1, timeout=30)
    async def grouped() -> str:
        async def member() -> None:
            try:
                await asyncio.sleep(20)
            finally:
                ended.append(1)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(member())
        except SoftTimeLimitExceeded:
            return "partial"
        return "whole"

    handle = await kit.enqueue(grouped)
    await kit.drain()
    assert await handle.result(timeout=15) == "partial"
    assert ended == [1, 1, 1]


async def test_hard_limit_lets_the_job_clean_up(kit: Kit) -> None:
    cleaned = []

    @kit.registry.job(timeout=0.1)
    async def slow() -> None:
        try:
            await asyncio.sleep(20)
        finally:
            await asyncio.sleep(0.01)
            cleaned.append(True)

    @kit.registry.job(timeout=0.1, max_tries=2, retry=RetryPolicy(on=(TimeLimitExceeded,), delay=0))
    async def again() -> None:
        await asyncio.sleep(20)

    handle, second = await kit.enqueue(slow), await kit.enqueue(again)
    await kit.drain()
    assert (await handle.job()).state is State.FAILED
    assert cleaned == [True]
    assert (await second.job()).tries == 2


async def test_job_that_swallows_its_cancellation_is_abandoned(kit: Kit) -> None:
    released = asyncio.Event()

    @kit.registry.job(timeout=0.1)
    async def stubborn() -> str:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue
        return "too late"

    @kit.registry.job()
    async def quick() -> str:
        return "has a slot"

    handle = await kit.enqueue(stubborn)
    with logged("embarq.worker") as lines:
        async with kit.worker(concurrency=1, cancel_grace=0.2):
            job = await kit.ended(handle.id)
            assert await (await kit.enqueue(quick)).result(timeout=20) == "has a slot"
            released.set()
            await asyncio.sleep(0.1)
    assert (job.state, job.error.type if job.error else None) == (State.FAILED, "TimeLimitExceeded")
    assert await kit.client.find(handle.id) == job
    told = next(line for line in lines if line["event"].startswith("job abandoned"))
    assert "in stubborn" in told["stack"]
    assert any(line["event"] == "abandoned job has ended" for line in lines)


async def test_limits_reach_into_threads(kit: Kit) -> None:
    @kit.registry.job(soft_timeout=0.1, timeout=30)
    def partial() -> str:
        try:
            while True:
                time.sleep(0.01)
        except SoftTimeLimitExceeded:
            return "partial"

    @kit.registry.job(timeout=0.1)
    def endless() -> None:
        while True:
            time.sleep(0.01)

    soft, hard = await kit.enqueue(partial), await kit.enqueue(endless)
    await kit.drain()
    assert await soft.result(timeout=15) == "partial"
    job = await hard.job()
    assert (job.state, job.error.type if job.error else None) == (State.FAILED, "TimeLimitExceeded")


async def test_thread_that_does_not_listen_is_left_behind(kit: Kit) -> None:
    go_on = threading.Event()

    @kit.registry.job(timeout=0.1)
    def deaf() -> None:
        go_on.wait(20)

    handle = await kit.enqueue(deaf)
    async with kit.worker(concurrency=1, cancel_grace=0.2):
        assert (await kit.ended(handle.id)).state is State.FAILED
    go_on.set()


async def test_interrupt_leaves_the_task_uncancelled() -> None:
    async def job() -> str:
        with contextlib.suppress(SoftTimeLimitExceeded):
            await asyncio.sleep(20)
        async with asyncio.timeout(5):  # needs a task that is not being cancelled
            await asyncio.sleep(0)
        return "went on"

    interruptible = Interruptible(job(), lambda: False)

    async def outer() -> str:
        return await interruptible

    task = asyncio.create_task(outer())
    await asyncio.sleep(0.01)
    interruptible.interrupt(SoftTimeLimitExceeded(1))
    assert await task == "went on"
    assert task.cancelling() == 0


async def test_cancelling_still_cancels() -> None:
    async def job() -> None:
        await asyncio.sleep(20)

    async def outer() -> None:
        await Interruptible(job(), lambda: False)

    task = asyncio.create_task(outer())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_jobs_can_await_the_stop(kit: Kit) -> None:
    inside = asyncio.Event()

    @kit.registry.job()
    async def patient(ctx: Context) -> str:
        inside.set()
        await ctx.stopping.wait()
        return "ended early"

    handle = await kit.enqueue(patient)
    async with kit.worker(grace=10):
        await inside.wait()
    assert (await handle.job()).result == "ended early"


async def test_hard_limit_wins_over_a_soft_one_in_the_same_moment(kit: Kit) -> None:
    """Also for a job that goes on after its soft limit: it must not be left to run with nobody to settle it."""
    went_on = []

    @kit.registry.job(soft_timeout=0.2, timeout=0.2)
    async def both() -> str:
        try:
            await asyncio.sleep(20)
        except SoftTimeLimitExceeded:
            went_on.append(True)
            await asyncio.sleep(20)
        return "partial"

    @kit.registry.job()
    async def block() -> None:
        time.sleep(0.5)  # noqa: ASYNC251  # both limits have passed when the loop moves again

    job, _ = await kit.enqueue(both, soft_timeout=0.2, timeout=0.4), await kit.enqueue(block)
    async with kit.worker():
        ended = await kit.ended(job.id, 5)
    assert (ended.state, ended.error.type if ended.error else None) == (State.FAILED, "TimeLimitExceeded")
    assert went_on == []


async def test_function_that_returned_in_time_has_succeeded_however_late_the_loop_hears_of_it(kit: Kit) -> None:
    started = threading.Event()

    @kit.registry.job(soft_timeout=0.2, timeout=0.4)
    def quick() -> str:
        started.set()
        time.sleep(0.1)
        return "in time"

    @kit.registry.job()
    async def block() -> None:
        await asyncio.to_thread(started.wait, 10)
        time.sleep(0.8)  # noqa: ASYNC251

    async with kit.worker():
        job, _ = await kit.enqueue(quick), await kit.enqueue(block)
        assert (await kit.ended(job.id)).result == "in time"
