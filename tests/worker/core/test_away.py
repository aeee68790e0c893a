"""An unavailable server is one line in the log, however many wait for it."""

import asyncio
import signal
from pathlib import Path
from typing import Any

from tests.support import Kit, eventually, logged
from worker import Client, Registry, Worker, every
from worker.core.away import DATABASE, REDIS, Away, server_of
from worker.core.errors import BrokerUnavailable
from worker.core.periodic import PeriodicTask, keep_all_running
from worker.dev import private_redis


def events(lines: list[dict[str, Any]]) -> list[str]:
    wanted = ("available", "waits", "back", "fail")
    return [line["event"] for line in lines if any(word in line["event"] for word in wanted)]


async def is_told(lines: list[dict[str, Any]], event: str) -> bool:
    return event in events(lines)


async def test_outage_of_redis_is_two_lines_of_a_worker(tmp_path: Path) -> None:
    registry = Registry()

    @registry.schedule(every(3600))
    @registry.job()
    async def work() -> int:
        return 1

    folder = tmp_path / "redis"
    with private_redis(folder) as url:
        pass
    async with Client.open(url) as client:
        kit = Kit(client, registry, "default")
        worker = Worker(client, registry, kit.config())
        with logged("embarq.worker") as lines:
            with private_redis(folder):
                running = asyncio.create_task(worker.async_run())
                assert await (await kit.enqueue(work)).result(20) == 1
            await asyncio.sleep(4)  # longer than it is between two heartbeats
            with private_redis(folder):
                await eventually(lambda: is_told(lines, "redis is available again"), 30)
                assert await (await kit.enqueue(work)).result(20) == 1
                worker.handle_sig(signal.SIGTERM)
                await running
    assert events(lines) == ["redis is unavailable", "redis is available again"]
    (back,) = [line for line in lines if line["event"] == "redis is available again"]
    assert back["seconds"] >= 3


async def test_back_is_told_when_the_last_of_those_who_waited_goes_on() -> None:
    now = 100.0
    server = Away("it is away", "it is back", clock=lambda: now)
    with logged("embarq.worker") as lines:
        server.goes_on("who never waited")
        for who in ("one", "other", "one", "third"):
            server.waits(who, BrokerUnavailable("first\nsecond line"))
        now = 112.34
        server.goes_on("one")
        server.leaves("third")
        assert len(lines) == 1
        server.goes_on("other")
        server.waits("one", BrokerUnavailable())
        server.leaves("one")
        server.waits("one", BrokerUnavailable("again"))
    told = [(line["event"], line.get("reason"), line.get("seconds")) for line in lines]
    assert told == [
        ("it is away", "first", None),
        ("it is back", None, 12.3),
        ("it is away", "BrokerUnavailable", None),
        ("it is away", "again", None),
    ]


async def test_duties_that_wait_are_told_once_and_those_that_fail_each_time() -> None:
    is_away, done = True, asyncio.Event()
    tried: list[str] = []

    async def ask(name: str) -> None:
        tried.append(name)
        if is_away:
            raise OSError(f"{name} cannot connect")
        if len(tried) > 10:
            done.set()

    async def fail() -> None:
        tried.append("fails")
        raise LookupError("a mistake")

    duties = [
        PeriodicTask("one", 0.01, lambda: ask("one")),
        PeriodicTask("other", 0.01, lambda: ask("other")),
        PeriodicTask("x", 0.01, fail),
    ]
    with logged("embarq.worker") as lines:
        doing = asyncio.create_task(keep_all_running(*duties))

        async def each_twice() -> bool:
            return all(tried.count(name) >= 2 for name in ("one", "other", "fails"))

        await eventually(each_twice, 30)
        is_away = False
        async with asyncio.timeout(30):
            await done.wait()
        doing.cancel()
        await asyncio.wait([doing])
    waits = [line["event"] for line in lines if line["event"] != "periodic task failed"]
    assert waits == ["the database is unavailable", "the database is available again"]
    assert len([line for line in lines if line["event"] == "periodic task failed"]) >= 2


def test_which_server_is_away() -> None:
    assert server_of(BrokerUnavailable("x")) is REDIS
    assert server_of(ConnectionRefusedError()) is DATABASE
