"""Progress of running jobs on its way to Redis."""

import asyncio
from urllib.parse import urlsplit

import pytest

from tests.support import CuttingProxy, Kit, free_port
from worker import Client
from worker.broker.exchange import ClaimRequest
from worker.context import Context, Stopping
from worker.errors import BrokerUnavailable
from worker.progress import ProgressWriter
from worker.run import Run


async def test_progress_that_could_not_be_written_is_written_later(kit: Kit, redis_url: str) -> None:
    @kit.registry.job()
    async def work() -> None: ...

    handle = await kit.enqueue(work)
    _, claim = await kit.client.broker.exchange([], ClaimRequest("w", 1, [kit.queue_key], 1, 60_000))
    assert claim is not None
    context = Context(job_id=handle.id, job="work", try_number=1, queue=kit.queue, stopping=Stopping())
    run = Run(claim.jobs[0], context)
    runs = {handle.id: run}
    proxy = CuttingProxy(free_port())
    async with proxy.serve(), Client.open(f"redis://127.0.0.1:{proxy.port}") as behind:
        writer = ProgressWriter(behind.broker, 60_000, runs, lambda *_: None)
        context.progress(1, 2)
        with pytest.raises(BrokerUnavailable):
            await writer.write()
        proxy._target = urlsplit(redis_url).port or 0
        await writer.write()
        progress = (await kit.client.find(handle.id)).progress
        assert progress is not None
        assert progress.current == 1
        context.progress(2, 2)
        proxy.passes.clear()
        writing = asyncio.create_task(writer.write())
        await asyncio.sleep(0)
        runs.clear()  # it ends while that is on its way
        writer.forget(handle.id)
        proxy.passes.set()
        await writing
        assert writer._written == {}
