"""What calls, results, errors and progress may take: checked before anything is sent."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.support import Kit, logged
from tests.worker import process_jobs
from worker import Client, Context, JobDefinition, Progress, Registry, State, chain
from worker.core import keys
from worker.core.calls import Call
from worker.core.errors import InvalidArguments, NotSerializable
from worker.core.options import check_options
from worker.core.schedule import make_record
from worker.core.texts import LONGEST_MESSAGE, LONGEST_PROGRESS, LONGEST_TRACEBACK
from worker.database import Database
from worker.runtime.scheduler import Scheduler

SMALL = 2048
FITS, LARGE = "x" * (SMALL - 400), "x" * SMALL


@pytest.fixture
async def small(redis_url: str, registry: Registry, queue: str) -> AsyncIterator[Kit]:
    """A client that takes 2 KiB a call."""
    async with Client.open(redis_url, max_arguments=SMALL) as client:
        registry.bind(client)
        yield Kit(client, registry, queue)
        registry.bind(None)


def keep(kit: Kit) -> JobDefinition[..., Any]:
    @kit.registry.job()
    async def kept(text: str) -> int:
        return len(text)

    return kept


def call(kit: Kit, job: JobDefinition[..., Any], text: str) -> Call[Any]:
    return job.call_with({"text": text}, check_options(job.name, {"queue": kit.queue}))


async def nothing_is_queued(kit: Kit) -> bool:
    return int(await kit.client.redis.exists(kit.queue_key)) == 0


async def test_call_that_is_too_large_is_refused_before_it_is_sent(small: Kit) -> None:
    job = keep(small)
    with pytest.raises(
        InvalidArguments, match=r"at most 2,048 bytes as JSON, not 2,\d\d\d: pass ids or file names"
    ) as caught:
        await small.client.enqueue(call(small, job, LARGE))
    assert caught.value.problems[0].pointer == "/args"
    with pytest.raises(InvalidArguments):
        await small.client.enqueue_many([call(small, job, FITS), call(small, job, LARGE)])
    with pytest.raises(InvalidArguments):
        await chain(job.options(queue=small.queue).si(FITS), job.options(queue=small.queue).si(LARGE)).enqueue()
    with pytest.raises(InvalidArguments):
        await job.options(queue=small.queue, on_success=job.si("done")).enqueue(LARGE)
    with pytest.raises(InvalidArguments):
        await small.client.arq.enqueue_job("kept", LARGE, _queue_name=small.queue_key)
    assert await nothing_is_queued(small)
    handle = await small.client.enqueue(call(small, job, FITS))
    await small.drain()
    assert await handle.result(timeout=15) == len(FITS)


async def test_so_is_one_for_the_outbox(small: Kit, migrated: AsyncEngine) -> None:
    job = keep(small)
    async with Database(migrated).session() as session:
        await job.enqueue_in(session, FITS)
        with pytest.raises(InvalidArguments):
            await job.enqueue_in(session, LARGE)


async def test_so_are_the_runs_of_a_schedule(small: Kit) -> None:
    job = keep(small)
    record = make_record({"name": f"s-{small.queue}", "job": job.name, "args": {"text": LARGE}, "every": 60})
    with pytest.raises(InvalidArguments):
        await Scheduler(small.client.schedules, small.registry).create(record)


async def test_sixteen_megabytes_are_taken_and_no_more(kit: Kit) -> None:
    job = keep(kit)
    with pytest.raises(InvalidArguments, match="at most 16,777,216 bytes"):
        await kit.client.enqueue(call(kit, job, "x" * 2**24))
    handle = await kit.client.enqueue(call(kit, job, "x" * (2**24 - 1000)))
    await kit.drain()
    assert await handle.result(timeout=20) == 2**24 - 1000


async def test_result_that_is_too_large_is_dropped_and_the_job_has_succeeded(kit: Kit) -> None:
    @kit.registry.job()
    async def large(size: int) -> str:
        return "x" * size

    @kit.registry.job()
    async def after(before: str | None) -> str:
        return f"got {before}"

    fits, dropped = [await kit.enqueue(large, {"size": size}) for size in (SMALL - 2, SMALL - 1)]
    step = large.options(queue=kit.queue).s(SMALL)
    flow = await chain(step, after.options(queue=kit.queue).s()).enqueue()
    with logged("embarq.job") as lines:
        await kit.drain(max_result=SMALL)
    assert "succeeded, but its result is too large and was dropped" in [line["event"] for line in lines]
    assert await fits.result(timeout=15) == "x" * (SMALL - 2)
    job = await dropped.job()
    assert (job.state, job.result) == (State.SUCCEEDED, None)
    assert job.error is not None
    assert (job.error.type, "at most 2,048 bytes as JSON, not 2,049" in job.error.message) == ("ResultTooLarge", True)
    assert (await kit.client.wait_for_workflow(flow.id, 5)).result == "got None"


async def test_result_of_a_process_is_bounded_before_it_travels(client: Client, queue: str) -> None:
    kit = Kit(client, process_jobs.registry, queue)
    fits, dropped = [await kit.enqueue(process_jobs.large, {"size": size}) for size in (100, SMALL)]
    await kit.drain(max_result=SMALL)
    assert await fits.result(timeout=15) == "x" * 100
    job = await dropped.job()
    assert (job.state, job.result, job.error and job.error.type) == (State.SUCCEEDED, None, "ResultTooLarge")


async def test_step_that_gives_too_much_is_not_on_record(kit: Kit) -> None:
    said: list[str] = []

    @kit.registry.job()
    async def steps(ctx: Context) -> int:
        async def give() -> str:
            return LARGE

        try:
            await ctx.once(f"step:{ctx.job_id}", give)
        except NotSerializable as error:
            said.append(str(error))
        return 1

    handle = await kit.enqueue(steps)
    await kit.drain(max_result=SMALL)
    assert await handle.result(timeout=15) == 1
    assert "at most 2,048 bytes as JSON, not 2,050" in said[0]
    assert not await kit.client.redis.exists(f"{keys.ONCE}step:{handle.id}")


async def test_messages_tracebacks_and_progress_are_cut(kit: Kit) -> None:
    @kit.registry.job()
    async def wordy(ctx: Context) -> None:
        ctx.progress(10**30, 2, "p" * 5000)
        raise RuntimeError("e" * 1_000_000)

    handle = await kit.enqueue(wordy)
    with logged("embarq.job") as lines:
        await kit.drain()
    job = await handle.job()
    assert job.error is not None
    assert len(job.error.message) == LONGEST_MESSAGE
    assert len(job.error.traceback or "") == LONGEST_TRACEBACK
    assert job.progress is not None
    assert (job.progress.current, len(job.progress.message or "")) == (2**53, LONGEST_PROGRESS)
    failed = next(line for line in lines if line["event"] == "failed")
    assert len(failed["error"]) < LONGEST_MESSAGE + 100


async def test_what_a_process_says_is_cut_before_it_travels(client: Client, queue: str) -> None:
    kit = Kit(client, process_jobs.registry, queue)
    handle = await kit.enqueue(process_jobs.wordy, {"size": 300_000})
    with logged("child") as lines:
        await kit.drain()
    job = await handle.job()
    assert [len(line["event"]) for line in lines] == [LONGEST_MESSAGE]
    assert job.progress is not None
    assert len(job.progress.message or "") == LONGEST_PROGRESS
    assert job.error is not None
    assert len(job.error.message) == LONGEST_MESSAGE


async def test_words_that_utf_8_cannot_write_harm_nobody(kit: Kit) -> None:
    @kit.registry.job()
    async def odd(ctx: Context) -> None:
        ctx.progress(1, 2, "half \ud83d")
        raise RuntimeError("half \ud83d")

    @kit.registry.job()
    async def even(ctx: Context) -> None:
        ctx.progress(1, 2, "whole")

    handles = [await kit.enqueue(job) for job in (odd, even)]
    await kit.drain()
    wrong, right = [await handle.job() for handle in handles]
    assert wrong.error is not None
    assert (wrong.error.type, wrong.error.message, wrong.progress) == (
        "RuntimeError",
        "half \\ud83d",
        Progress(1, 2, "half \\ud83d"),
    )
    assert (right.state, right.progress) == (State.SUCCEEDED, Progress(1, 2, "whole"))
