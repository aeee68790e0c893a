"""RQ with its simple worker, which runs jobs in its own process instead of forking for each."""

import os
from contextlib import asynccontextmanager

from redis import Redis
from rq import Queue, SimpleWorker

from benchmarks.peers import command, meter

redis = Redis.from_url(os.environ["REDIS_URL"])
queue = Queue(connection=redis)


def worker():
    SimpleWorker([queue], connection=redis).work(logging_level="WARNING")


@asynccontextmanager
async def producer():
    async def enqueue(name, due=None, delay=0.0):
        if due is None:
            queue.enqueue(meter.tick, result_ttl=3600)
        else:
            queue.enqueue(meter.stamp, due)

    yield enqueue


if __name__ == "__main__":
    command.main("benchmarks.peers.rq")
