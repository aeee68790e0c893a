"""The least that can be called a queue: claim and finish in batches by two scripts, with leases, and no feature."""

import asyncio
import json
import os
from contextlib import asynccontextmanager

import uvloop
from redis.asyncio import Redis

from benchmarks.peers import command, meter
from worker.client import Client

CLAIM = """
local now = redis.call('TIME'); now = now[1] * 1000 + math.floor(now[2] / 1000)
local ids = redis.call('ZRANGEBYSCORE', 'floor:queue', '-inf', now, 'LIMIT', 0, ARGV[1])
local names, scores = {}, {}
for i, id in ipairs(ids) do
  names[i] = 'floor:job:' .. id
  scores[2 * i - 1], scores[2 * i] = now + 15000, id
end
if #ids == 0 then return {} end
redis.call('ZADD', 'floor:queue', unpack(scores))
return {ids, redis.call('MGET', unpack(names))}
"""
FINISH = """
local gone = {}
for i, id in ipairs(ARGV) do
  redis.call('SET', 'floor:result:' .. id, 'null', 'PX', 3600000)
  gone[i] = 'floor:job:' .. id
end
redis.call('DEL', unpack(gone))
redis.call('ZREM', 'floor:queue', unpack(ARGV))
"""
BATCH = 50


async def tick() -> None:
    meter.tick()


async def nap(seconds: float) -> None:
    await asyncio.sleep(seconds)
    meter.tick()


FUNCTIONS = {"tick": tick, "nap": nap}
JOBS = {"tick": ("tick", {}), "nap1": ("nap", {"seconds": 0.001}), "nap100": ("nap", {"seconds": 0.1})}


async def worker():
    async with Client.open(os.environ["REDIS_URL"]) as client:
        claim, finish = (client.redis.register_script(script) for script in (CLAIM, FINISH))
        await asyncio.gather(*(serve(claim, finish) for _ in range(int(os.environ["BENCH_CONCURRENCY"]) // BATCH)))


async def serve(claim, finish):
    """Claim a batch, run it, finish it; two of these keep Redis and the worker busy together."""
    while True:
        answer = await claim(args=[BATCH])
        if not answer:
            await asyncio.sleep(0.01)
            continue
        ids, payloads = answer
        calls = [json.loads(payload) for payload in payloads]
        await asyncio.gather(*(asyncio.create_task(FUNCTIONS[name](**arguments)) for name, arguments in calls))
        await finish(args=ids)


@asynccontextmanager
async def producer():
    yield None


async def bulk(name, count):
    payload = json.dumps(JOBS[name])
    redis = Redis.from_url(os.environ["REDIS_URL"])
    for start in range(0, count, 1000):
        ids = range(start, start + 1000)
        async with redis.pipeline(transaction=False) as pipe:
            pipe.mset({f"floor:job:{n}": payload for n in ids})
            pipe.zadd("floor:queue", {str(n): n for n in ids})
            await pipe.execute()
    await redis.aclose()


if __name__ == "__main__":
    command.main("benchmarks.peers.floor", uvloop.run)
