"""The same work for a plain arq worker, with JSON as its serializer."""

import json
import os
import time
from typing import Any, ClassVar

from arq.connections import RedisSettings
from arq.worker import run_worker


async def noop(ctx: dict[str, Any]) -> None:
    pass


async def stamp(ctx: dict[str, Any]) -> float:
    return time.time()


class WorkerSettings:
    """Arq as shipped, but for the concurrency."""

    functions: ClassVar = [noop, stamp]
    redis_settings = RedisSettings.from_dsn(os.environ["REDIS_URL"])
    max_jobs = 100
    job_serializer = staticmethod(lambda record: json.dumps(record).encode())
    job_deserializer = staticmethod(json.loads)


if __name__ == "__main__":
    run_worker(WorkerSettings)  # type: ignore[arg-type]  # arq takes any class with these names
