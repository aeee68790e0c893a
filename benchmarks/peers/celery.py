"""Celery, one prefork child, as shipped: it acknowledges before it runs, so a crash loses the job."""

import os
from contextlib import asynccontextmanager

import celery

from benchmarks.peers import command, meter

app = celery.Celery("bench", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])


@app.task
def tick():
    meter.tick()


@app.task
def number(n):
    return n


@app.task
def total(numbers):
    meter.called(sum(numbers))


@app.task
def stamp(due):
    meter.stamp(due)


def worker():
    app.worker_main(["worker", "--pool", "prefork", "--concurrency", "1", "--loglevel", "WARNING"])


@asynccontextmanager
async def producer():
    async def enqueue(name, due=None, delay=0.0):
        task, arguments = (tick, ()) if due is None else (stamp, (due,))
        task.apply_async(arguments, countdown=delay or None)

    yield enqueue


async def chord(count):
    celery.chord((number.s(n) for n in range(count)), total.s()).apply_async()


if __name__ == "__main__":
    command.main("benchmarks.peers.celery")
