"""Dramatiq, one process, as many threads as asked for; without results."""

import os
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.peers import command, meter

broker = RedisBroker(url=os.environ["REDIS_URL"])
broker.add_middleware(Results(backend=RedisBackend(url=os.environ["REDIS_URL"]), store_results=True))
dramatiq.set_broker(broker)


@dramatiq.actor
def tick():
    meter.tick()
    return 0


@dramatiq.actor
def nap(seconds):
    time.sleep(seconds)
    meter.tick()
    return 0


@dramatiq.actor
def stamp(due):
    meter.stamp(due)


JOBS = {"tick": (tick, ()), "nap1": (nap, (0.001,)), "nap100": (nap, (0.1,))}


def worker():
    program = str(Path(sys.executable).with_name("dramatiq"))
    threads = os.environ.get("BENCH_THREADS", "8")
    os.execv(program, [program, "benchmarks.peers.dramatiq", "--processes", "1", "--threads", threads])


@asynccontextmanager
async def producer():
    async def enqueue(name, due=None, delay=0.0):
        actor, arguments = JOBS[name] if due is None else (stamp, (due,))
        actor.send_with_options(args=arguments, delay=int(delay * 1000) or None)

    yield enqueue


if __name__ == "__main__":
    command.main("benchmarks.peers.dramatiq")
