"""Plain arq with JSON: as shipped but for its concurrency, or tuned by BENCH_TUNED (read limit, poll delay, uvloop)."""

import asyncio
import json
import os
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import uvloop
from arq.connections import RedisSettings, create_pool
from arq.worker import create_worker

from benchmarks.peers import command, meter

TUNED = "BENCH_TUNED" in os.environ
REDIS = RedisSettings.from_dsn(os.environ["REDIS_URL"])


def dumps(record):
    return json.dumps(record).encode()


async def tick(ctx):
    meter.tick()


async def nap(ctx, seconds):
    await asyncio.sleep(seconds)
    meter.tick()


async def stamp(ctx, due):
    meter.stamp(due)


JOBS = {"tick": ("tick",), "nap1": ("nap", 0.001), "nap100": ("nap", 0.1)}


def worker():
    class WorkerSettings:
        functions = [tick, nap, stamp]  # noqa: RUF012
        redis_settings = REDIS
        max_jobs = int(os.environ["BENCH_CONCURRENCY"])
        job_serializer = dumps
        job_deserializer = json.loads

    options = {"queue_read_limit": 10_000, "poll_delay": 0.01} if TUNED else {}
    if TUNED:
        uvloop.install()
    asyncio.set_event_loop(asyncio.new_event_loop())
    create_worker(WorkerSettings, **options).run()


@asynccontextmanager
async def producer():
    pool = await create_pool(REDIS, job_serializer=dumps, job_deserializer=json.loads)

    async def enqueue(name, due=None, delay=0.0):
        arguments = JOBS[name] if due is None else ("stamp", due)
        await pool.enqueue_job(*arguments, _defer_until=datetime.fromtimestamp(due, UTC) if delay else None)

    yield enqueue
    await pool.aclose()


if __name__ == "__main__":
    command.main("benchmarks.peers.arq", uvloop.run if TUNED else asyncio.run)
