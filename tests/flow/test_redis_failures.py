"""The worker outlives whatever happens to Redis, and goes on by itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis.exceptions import RedisError, ResponseError

from tests.support import CuttingProxy, Kit, eventually
from worker import Client, Registry, State
from worker.core.errors import BrokerUnavailable
from worker.dev import private_redis, redis_program


@asynccontextmanager
async def kit_on(url: str) -> AsyncIterator[Kit]:
    async with Client.open(url) as client:
        yield Kit(client, Registry(), "default")


async def finishes(kit: Kit) -> None:
    """A new job is taken and ends."""

    async def enqueued() -> str:
        return (await kit.enqueue(kit.registry.get("quick"), {})).id

    assert (await kit.ended(await enqueued())).state is State.SUCCEEDED


def add_jobs(kit: Kit, starts: list[int]) -> None:
    @kit.registry.job()
    async def quick() -> int:
        return 1

    @kit.registry.job()
    async def long(seconds: float) -> int:
        starts.append(1)
        await asyncio.sleep(seconds)
        return len(starts)


@pytest.mark.arq_defect(4)
async def test_restart_in_the_middle_of_jobs(tmp_path: Path) -> None:
    starts: list[int] = []
    with ExitStack() as first, ExitStack() as second:
        url = first.enter_context(private_redis(tmp_path))
        async with kit_on(url) as kit:
            add_jobs(kit, starts)
            handle = await kit.enqueue(kit.registry.get("long"), {"seconds": 2.0})
            deferred = await kit.enqueue(kit.registry.get("quick"), delay=2)
            async with kit.worker(lease=10):
                await kit.reaches(handle.id, State.RUNNING)
                await asyncio.sleep(1.1)  # appendfsync everysec
                await asyncio.to_thread(first.close)
                await asyncio.sleep(1)
                again = private_redis(tmp_path)
                await asyncio.to_thread(second.enter_context, again)
                assert (await kit.ended(handle.id)).result == 1
                assert (await kit.ended(deferred.id)).state is State.SUCCEEDED
                await finishes(kit)


async def test_connections_that_are_cut_now_and_then(redis_url: str) -> None:
    starts: list[int] = []
    proxy = CuttingProxy(urlsplit(redis_url).port or 0)
    async with proxy.serve(), kit_on(f"redis://127.0.0.1:{proxy.port}/0") as kit:
        add_jobs(kit, starts)
        async with kit.worker(lease=2):
            for _ in range(5):
                await finishes(kit)
                proxy.cut_all()


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [("maxmemory", "1", "0"), ("min-replicas-to-write", "1", "0"), ("replicaof", "127.0.0.1 1", "no one")],
)
async def test_server_that_refuses_writes_for_a_while(tmp_path: Path, name: str, wrong: str, right: str) -> None:
    starts: list[int] = []
    with private_redis(tmp_path) as url:
        async with kit_on(url) as kit:
            add_jobs(kit, starts)

            async def configure(value: str) -> None:
                command = ["REPLICAOF", *value.split()] if name == "replicaof" else ["CONFIG", "SET", name, value]
                await kit.client.redis.execute_command(*command)

            handle = await kit.enqueue(kit.registry.get("long"), {"seconds": 0.5})
            async with kit.worker(lease=10):
                await kit.reaches(handle.id, State.RUNNING)
                await configure(wrong)
                await asyncio.sleep(1)
                await configure(right)
                assert (await kit.ended(handle.id)).result == 1
                await finishes(kit)


async def test_enqueue_without_memory_is_refused_whole(tmp_path: Path) -> None:
    with private_redis(tmp_path) as url:
        async with kit_on(url) as kit:
            add_jobs(kit, [])
            await kit.client.redis.config_set("maxmemory", "1")
            with pytest.raises(BrokerUnavailable, match="maxmemory"):
                await kit.enqueue(kit.registry.get("quick"))
            assert await kit.client.redis.dbsize() == 0


async def test_full_disk_is_waited_out(tmp_path: Path) -> None:
    """The server may write so much to a file; then it starts again with room."""
    starts: list[int] = []
    program = tmp_path / "server-with-quota"
    program.write_text(f"#!/bin/sh\ntrap '' XFSZ\nulimit -f 1000\nexec {redis_program()} \"$@\"\n")
    program.chmod(0o755)
    with ExitStack() as first, ExitStack() as second:
        url = first.enter_context(private_redis(tmp_path / "redis", program=program, fsync="always"))
        async with kit_on(url) as kit:
            add_jobs(kit, starts)

            async def full() -> bool:
                try:
                    await kit.client.redis.set("filler", b"x" * 10_000)
                except ResponseError as error:
                    return "MISCONF" in str(error)
                except RedisError:  # with fsync at each write, a server that cannot write ends
                    return True
                return False

            handle = await kit.enqueue(kit.registry.get("long"), {"seconds": 1.0})
            async with kit.worker(lease=10):
                await kit.reaches(handle.id, State.RUNNING)
                await eventually(full)
                with pytest.raises(BrokerUnavailable):
                    await kit.enqueue(kit.registry.get("quick"))
                await asyncio.sleep(1)
                await asyncio.to_thread(first.close)
                again = private_redis(tmp_path / "redis")
                await asyncio.to_thread(second.enter_context, again)
                assert (await kit.ended(handle.id)).result == 1
                await finishes(kit)


async def test_lease_that_runs_out_while_redis_is_away_stops_the_job(tmp_path: Path) -> None:
    starts: list[int] = []
    stopped = asyncio.Event()
    with ExitStack() as first, ExitStack() as second:
        url = first.enter_context(private_redis(tmp_path))
        async with kit_on(url) as kit:
            add_jobs(kit, starts)

            @kit.registry.job()
            async def watched() -> int:
                starts.append(1)
                try:
                    await asyncio.sleep(60 if len(starts) == 1 else 0)
                finally:
                    stopped.set()
                return len(starts)

            handle = await kit.enqueue(watched)
            async with kit.worker(lease=1):
                await eventually(lambda: _has(starts))
                await asyncio.sleep(1.1)
                await asyncio.to_thread(first.close)
                async with asyncio.timeout(5):
                    await stopped.wait()
                again = private_redis(tmp_path)
                await asyncio.to_thread(second.enter_context, again)
                job = await kit.ended(handle.id)
    assert (job.result, job.tries) == (2, 2)
    assert [t.outcome for t in job.attempts] == ["lost", "succeeded"]


async def _has(values: list[int]) -> bool:
    return bool(values)
