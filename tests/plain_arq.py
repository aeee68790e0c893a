"""Workers of the installed arq."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from arq.connections import ArqRedis
from arq.worker import Worker as ArqWorker
from arq.worker import func

from tests.support import Kit


def to_json(record: dict[str, Any]) -> bytes:
    return json.dumps(record).encode()


class PlainWorker(ArqWorker):
    """Ends while it starts no jobs: cancelled between `WATCH` and `EXEC`, it leaves a pipeline that complains."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.starting = asyncio.Lock()

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        async with self.starting:
            await super().start_jobs(job_ids)


@asynccontextmanager
async def plain_worker(pool: ArqRedis, kit: Kit, *functions: Any, **options: Any) -> AsyncIterator[ArqWorker]:
    worker = PlainWorker(
        functions=[func(function, name=function.__name__) for function in functions],
        redis_pool=pool,
        queue_name=kit.queue_key,
        handle_signals=False,
        poll_delay=0.05,
        **{"job_serializer": to_json, "job_deserializer": json.loads} | options,
    )
    task = asyncio.create_task(worker.async_run())
    try:
        yield worker
    finally:
        async with worker.starting:
            task.cancel()
        await asyncio.gather(task, *worker.tasks.values(), return_exceptions=True)
