"""Progress of running jobs on its way to Redis."""

import asyncio
import math
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support import CuttingProxy, Kit, eventually, free_port, logged
from tests.worker import process_jobs
from worker import Client, Progress
from worker.broker.exchange import ClaimRequest
from worker.core import keys
from worker.core.context import Context, Stopping
from worker.core.errors import BrokerUnavailable
from worker.core.wire import LARGEST_META
from worker.execution.attempt import Attempt
from worker.runtime.progress import ProgressWriter


async def test_progress_that_could_not_be_written_is_written_later(kit: Kit, redis_url: str) -> None:
    @kit.registry.job()
    async def work() -> None: ...

    handle = await kit.enqueue(work)
    _, claim = await kit.client.queue_store.exchange([], ClaimRequest("w", 1, [kit.queue_key], 1, 60_000))
    assert claim is not None
    context = Context(job_id=handle.id, job="work", try_number=1, queue=kit.queue, stopping=Stopping())
    run = Attempt(claim.jobs[0], context)
    runs = {handle.id: run}
    proxy = CuttingProxy(free_port())
    async with proxy.serve(), Client.open(f"redis://127.0.0.1:{proxy.port}") as behind:
        writer = ProgressWriter(behind.queue_store, 60_000, runs, lambda *_: None)
        context.progress(1, 2)
        with pytest.raises(BrokerUnavailable):
            await writer.run_once()
        proxy._target = urlsplit(redis_url).port or 0
        await writer.run_once()
        progress = (await kit.client.find(handle.id)).progress
        assert progress is not None
        assert progress.current == 1
        context.progress(2, 2)
        proxy.passes.clear()
        writing = asyncio.create_task(writer.run_once())
        await asyncio.sleep(0)
        runs.clear()  # it ends while that is on its way
        proxy.passes.set()
        await writing
        await writer.run_once()
        assert writer._written == {}


async def test_meta_is_seen_while_the_job_runs_and_afterwards(kit: Kit) -> None:
    go_on = asyncio.Event()
    meta = {"file": "a.csv", "rows": [1, 2], "at": datetime(2026, 5, 1, tzinfo=UTC)}
    told = {"file": "a.csv", "rows": [1, 2], "at": "2026-05-01T00:00:00Z"}

    @kit.registry.job()
    async def work(ctx: Context) -> None:
        ctx.progress(1, 2, "half", meta=meta)
        meta["file"] = "changed afterwards"
        await go_on.wait()
        ctx.progress(2, 2, meta={})

    handle = await kit.enqueue(work)
    async with kit.worker():

        async def seen() -> Progress | None:
            return (await handle.job()).progress

        assert await eventually(seen) == Progress(1, 2, "half", told)
        go_on.set()
        assert (await kit.ended(handle.id)).progress == Progress(2, 2, None, {})


class Loud:
    """Has no JSON form."""


@pytest.mark.parametrize(
    "meta",
    [
        {"x": "y" * LARGEST_META},
        {"x": ["é" * LARGEST_META]},
        {"x": Loud()},
        {"x": "\ud800"},
        {Loud(): 1},
        ["a"],
        "text",
        5,
    ],
)
async def test_meta_that_is_not_json_or_too_large_is_left_out_and_told_once(kit: Kit, meta: Any) -> None:
    @kit.registry.job()
    async def work(ctx: Context) -> str:
        for step in range(50):
            ctx.progress(step, 50, "on", meta=meta)
        return "done"

    handle = await kit.enqueue(work)
    with logged("work") as lines:
        await kit.drain()
    job = await handle.job()
    assert (job.result, job.progress) == ("done", Progress(49, 50, "on", None))
    assert [line["event"] for line in lines] == ["progress without its meta"]


@pytest.mark.parametrize(
    ("current", "total"), [(math.nan, 2), (math.inf, 2), (1, math.nan), (1, -math.inf), ("x", 2), (None, 2), ([], {})]
)
async def test_progress_in_no_numbers_is_left_out_and_told_once(kit: Kit, current: Any, total: Any) -> None:
    @kit.registry.job()
    async def work(ctx: Context) -> str:
        ctx.progress(1, 3, "before")
        for _ in range(50):
            ctx.progress(current, total, "wrong")
        return "done"

    handle = await kit.enqueue(work)
    with logged("work") as lines:
        await kit.drain()
    job = await handle.job()
    assert (job.result, job.progress) == ("done", Progress(1, 3, "before"))
    assert [line["event"] for line in lines] == ["progress left out"]


async def test_meta_of_a_job_in_a_process(client: Client, queue: str) -> None:
    kit = Kit(client, process_jobs.registry, queue)
    small, large = [await kit.enqueue(process_jobs.tells, {"size": size}) for size in (5, 200_000)]
    with logged("tells") as lines:
        await kit.drain()
    assert (await small.job()).progress == Progress(1, 2, "half", {"file": "xxxxx"})
    assert (await large.job()).progress == Progress(1, 2, "half", None)
    assert [line["event"].partition(" reason=")[0] for line in lines] == ["progress without its meta"]


async def test_progress_of_another_writer_is_read_or_not_but_never_raises(kit: Kit) -> None:
    @kit.registry.job()
    async def work() -> None: ...

    handle = await kit.enqueue(work)
    for record, read in (
        (b'{"c":1,"t":2}', Progress(1, 2)),
        (b'{"c":1,"d":{"a":1},"later":true}', Progress(1, None, None, {"a": 1})),
        (b'{"c":1,"d":[1]}', None),
        (b'{"c":1,"d":"x"}', None),
        (b'{"c":1,"d":' + b'{"a":' * 5000 + b"1" + b"}" * 5001, None),
    ):
        await kit.client.redis.set(keys.PROGRESS + handle.id, record)
        assert (await handle.job()).progress == read
