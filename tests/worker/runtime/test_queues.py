import asyncio
import dataclasses
from collections import Counter
from typing import Any

import pytest

from tests.support import Kit, eventually
from worker import Registry, State, Worker
from worker.broker.queue_selection import Service
from worker.core.errors import InvalidOptions


@pytest.fixture
def ran() -> list[str]:
    return []


def noting(kit: Kit, ran: list[str]) -> Any:
    @kit.registry.job()
    async def note(text: str) -> None:
        ran.append(text)

    return note


async def test_paused_queue_keeps_its_jobs_until_it_is_resumed(kit: Kit, ran: list[str]) -> None:
    note = noting(kit, ran)
    assert await kit.client.pause_queue(kit.queue)
    assert not await kit.client.pause_queue(kit.queue)
    async with kit.worker():
        handle = await kit.enqueue(note, {"text": "a"})
        high = await kit.enqueue(note, {"text": "b"}, priority="high")
        await asyncio.sleep(0.7)  # longer than the slow poll
        assert ran == []
        assert (await handle.job()).state is State.QUEUED
        (record,) = [each for each in await kit.client.queues() if each.queue == kit.queue]
        assert (record.paused, record.waiting) == (True, 2)
        assert await kit.client.resume_queue(kit.queue)
        await kit.ended(handle.id)
        await kit.ended(high.id)
    assert not await kit.client.resume_queue(kit.queue)


async def test_job_that_runs_goes_on_while_its_queue_is_paused(kit: Kit) -> None:
    @kit.registry.job()
    async def nap() -> str:
        await asyncio.sleep(0.3)
        return "rested"

    async with kit.worker():
        handle = await kit.enqueue(nap)
        await kit.reaches(handle.id, State.RUNNING)
        await kit.client.pause_queue(kit.queue)
        assert await handle.result(timeout=20) == "rested"


async def test_purge_cancels_what_waits_and_leaves_what_runs(kit: Kit, ran: list[str]) -> None:
    note = noting(kit, ran)
    free = asyncio.Event()

    @kit.registry.job()
    async def hold() -> str:
        await free.wait()
        return "held on"

    async with kit.worker(concurrency=1):
        running = await kit.enqueue(hold)
        await kit.reaches(running.id, State.RUNNING)
        waiting = [await kit.enqueue(note, {"text": "x"}) for _ in range(600)]
        later = await kit.enqueue(note, {"text": "y"}, delay=600)
        low = await kit.enqueue(note, {"text": "z"}, priority="low")
        assert await kit.client.purge_queue(kit.queue) == 602
        free.set()
        assert await running.result(timeout=20) == "held on"
    for handle in (waiting[0], waiting[-1], later, low):
        assert (await handle.job()).state is State.CANCELLED
    assert ran == []


async def test_queue_lengths_and_latency(kit: Kit, ran: list[str]) -> None:
    note = noting(kit, ran)
    for _ in range(3):
        await kit.enqueue(note, {"text": "x"})
    await kit.enqueue(note, {"text": "y"}, delay=60)
    await asyncio.sleep(0.1)
    (record,) = [each for each in await kit.client.queues() if each.queue == kit.queue]
    assert (record.waiting, record.later, record.limited, record.paused) == (3, 1, 0, False)
    assert 0.1 <= record.latency < 5


def test_route_by_pattern_gives_way_to_declaration_and_call(kit: Kit) -> None:
    registry = Registry()

    @registry.job()
    async def routed() -> None: ...

    @registry.job(queue="own")
    async def declared() -> None: ...

    registry.route([("*.nothing.*", "no"), (f"{__name__}.*", "mail"), ("*", "rest")])
    assert routed.queue == "mail"
    assert declared.queue == "own"
    assert registry.queue_for("elsewhere.job") == "rest"


def test_strict_order_is_kept_but_for_every_tenth_claim() -> None:
    service = Service.read(["a", "b"])
    assert service.keys(1)[:4] == ["arq:queue:a!high", "arq:queue:a", "arq:queue:a!low", "arq:queue:b!high"]
    assert service.keys(10) == service.keys(1)[::-1]


def test_weights_share_the_first_place() -> None:
    service = Service.read(["a:3", "b:1"])
    first = Counter(service.keys(number)[1] for number in range(1, 4001) if number % 10)
    assert 0.70 < first["arq:queue:a"] / first.total() < 0.80


@pytest.mark.parametrize("names", [["a:0"], ["a:x"], ["a b"], ["health-check"]])
def test_wrong_queues_are_refused(names: list[str]) -> None:
    with pytest.raises(InvalidOptions):
        Service.read(names)


async def test_weighted_worker_serves_both_queues(kit: Kit, ran: list[str]) -> None:
    note = noting(kit, ran)
    other = f"{kit.queue}-b"
    for _ in range(50):
        await kit.enqueue(note, {"text": "a"})
        await kit.enqueue(note, {"text": "b"}, queue=other)
    config = dataclasses.replace(kit.config(burst=True, concurrency=1), queues=(f"{kit.queue}:4", f"{other}:1"))
    worker = Worker(kit.client, kit.registry, config)
    async with asyncio.timeout(30):
        await worker.async_run()
    counts = Counter(ran[:30])
    assert counts["a"] > counts["b"] > 0
    assert Counter(ran) == {"a": 50, "b": 50}


async def test_urgent_job_starts_next_and_low_ones_still_move(kit: Kit, ran: list[str]) -> None:
    note = noting(kit, ran)
    options: Any = {"queue": kit.queue, "priority": "low"}
    await kit.client.enqueue_many(note.options(**options).call(text="low") for _ in range(10_000))
    async with kit.worker(concurrency=10):
        await eventually(lambda: done(ran, 100))
        before = len(ran)
        urgent = await kit.enqueue(note, {"text": "urgent"}, priority="high")
        await kit.ended(urgent.id)
        assert ran.index("urgent") - before < 100  # what was claimed, or on its way, when it came
    assert ran.count("low") > 100


async def test_low_jobs_move_under_constant_urgent_load(kit: Kit, ran: list[str]) -> None:
    note = noting(kit, ran)
    for text, priority in (("low", "low"), ("urgent", "high")):
        options: Any = {"queue": kit.queue, "priority": priority}
        await kit.client.enqueue_many(note.options(**options).call(text=text) for _ in range(2000))
    await kit.drain(concurrency=10)
    share = Counter(ran[:1000])
    assert share["urgent"] > 800
    assert share["low"] > 30


async def done(ran: list[str], count: int) -> bool:
    return len(ran) >= count
