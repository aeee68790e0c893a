"""What a job can reach through its context."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.support import Kit
from tests.worker import process_jobs
from worker import Client, Context, State
from worker.core.errors import NoClient


async def test_job_queues_another_by_the_workers_client(kit: Kit) -> None:
    @kit.registry.job()
    async def second(n: int) -> int:
        return n + 1

    @kit.registry.job()
    async def first(ctx: Context) -> str:
        queued = await ctx.client.arq.enqueue_job("second", 1, _queue_name=kit.queue_key)
        assert queued is not None
        return queued.job_id

    handle = await kit.enqueue(first)
    await kit.drain()
    assert (await kit.client.find(await handle.result(1))).result == 2


async def test_enqueue_time_is_aware_and_stays_over_tries_and_delays(kit: Kit) -> None:
    seen: list[datetime] = []

    @kit.registry.job()
    async def look(ctx: Context) -> None:
        seen.append(ctx.enqueue_time)

    handle = await kit.enqueue(look, delay=0.3)
    enqueued = (await handle.job()).enqueued_at
    async with kit.worker():
        await kit.ended(handle.id)
    assert seen == [enqueued]
    assert seen[0].tzinfo is UTC


async def test_called_directly_there_is_a_time_and_no_client(kit: Kit) -> None:
    @kit.registry.job()
    async def look(ctx: Context) -> datetime:
        with pytest.raises(NoClient, match="called directly"):
            _ = ctx.client
        return ctx.enqueue_time

    assert datetime.now(UTC) - await look() < timedelta(minutes=1)


async def test_job_in_a_process_has_the_time_and_is_told_that_it_has_no_client(client: Client, queue: str) -> None:
    kit = Kit(client, process_jobs.registry, queue)
    handle, asks = await kit.enqueue(process_jobs.times), await kit.enqueue(process_jobs.wants_client)
    await kit.drain()
    job = await handle.job()
    assert job.result == {"enqueue_time": job.enqueued_at.isoformat(), "workflow_id": None}
    failed = await asks.job()
    assert (failed.state, failed.error and failed.error.type) == (State.FAILED, "NoClient")
    assert failed.error is not None
    assert "process=True" in failed.error.message
