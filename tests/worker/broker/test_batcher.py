"""Calls that are sent together: one that is refused touches no other, and none waits for ever."""

import asyncio
from collections.abc import Iterator, Sequence

import pytest
from redis.exceptions import ResponseError

from tests.support import Kit
from worker import State
from worker.broker import batcher
from worker.broker.batcher import Batcher
from worker.broker.queue_store import EnqueueResult, NewJob
from worker.core.calls import Call
from worker.core.errors import BrokerUnavailable, Overloaded


def job(name: str, payload: bytes = b"{}") -> NewJob:
    return NewJob(name, "arq:queue", name, payload)


class Door:
    """Takes jobs when it is open; refuses what contains a bad one."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.sent: list[list[str]] = []

    async def send(self, jobs: Sequence[NewJob]) -> list[EnqueueResult]:
        await self.open.wait()
        self.sent.append([each.id for each in jobs])
        if any(each.id.startswith("bad") for each in jobs):
            raise ResponseError("ERR invalid expire time")
        return [EnqueueResult(each.id, True) for each in jobs]


async def test_one_that_is_refused_touches_no_other() -> None:
    door = Door()
    both = Batcher(door.send, 5)
    names = ["first", *(f"good{n}" for n in range(100)), "bad", *(f"more{n}" for n in range(100)), "bad2"]
    calls = [asyncio.create_task(both.add(job(name))) for name in names]
    await asyncio.sleep(0)
    door.open.set()
    outcomes = dict(zip(names, await asyncio.gather(*calls, return_exceptions=True), strict=True))
    assert [name for name, outcome in outcomes.items() if not isinstance(outcome, EnqueueResult)] == ["bad", "bad2"]
    assert isinstance(outcomes["bad"], ResponseError)
    assert len(door.sent) < 50


async def test_a_caller_that_went_is_not_sent_and_breaks_nothing() -> None:
    door = Door()
    both = Batcher(door.send, 5)
    calls = [asyncio.create_task(both.add(job(str(n)))) for n in range(5)]
    await asyncio.sleep(0)
    calls[2].cancel()
    calls[0].cancel()  # the one that is under way
    await asyncio.sleep(0)
    door.open.set()
    await asyncio.gather(*calls, return_exceptions=True)
    assert [call.cancelled() for call in calls] == [True, False, True, False, False]
    assert door.sent == [["1", "3", "4"]]
    await both.close()


async def test_a_caller_waits_no_longer_than_it_may() -> None:
    door = Door()
    both = Batcher(door.send, 0.1)
    first = asyncio.create_task(both.add(job("first")))
    await asyncio.sleep(0)
    with pytest.raises(BrokerUnavailable):
        await both.add(job("late"))
    door.open.set()
    await first
    await both.add(job("next"))
    assert door.sent == [["first"], ["next"]]


async def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher, "MOST_WAITING", 3)
    monkeypatch.setattr(batcher, "MOST_BYTES_WAITING", 100)
    door = Door()
    both = Batcher(door.send, 5)
    calls = [asyncio.create_task(both.add(job(str(n)))) for n in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="may wait to be enqueued"):
        await both.add(job("large", b"x" * 100))
    calls.append(asyncio.create_task(both.add(job("3"))))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await both.add(job("4"))
    door.open.set()
    await asyncio.gather(*calls)
    assert await both.add(job("5")) == EnqueueResult("5", True)


async def test_many_calls_with_a_bad_one(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    @kit.registry.job(queue=kit.queue)
    async def work(n: int) -> None: ...

    real = kit.client.queue_store.enqueue

    async def enqueue(jobs: Sequence[NewJob]) -> list[EnqueueResult]:
        if any(each.id.endswith("-bad") for each in jobs):
            raise ResponseError("ERR invalid expire time")
        return await real(jobs)

    monkeypatch.setattr(kit.client.queue_store, "enqueue", enqueue)
    ids = [f"{kit.queue}-{'bad' if n == 37 else n}" for n in range(100)]
    calls = [work.options(id=name).call(n) for n, name in enumerate(ids)]
    with pytest.raises(ResponseError) as refused:
        await kit.client.enqueue_many(calls)
    assert "-bad" in refused.value.__notes__[0]
    for name in ids:
        if not name.endswith("-bad"):
            assert (await kit.client.find(name)).state is State.QUEUED


async def test_what_came_before_calls_that_cannot_be_made_is_queued(kit: Kit) -> None:
    @kit.registry.job(queue=kit.queue)
    async def work(n: int) -> None: ...

    def calls() -> Iterator[Call[None]]:
        yield from (work.call(n) for n in range(1000))
        raise LookupError("the file ends here")

    with pytest.raises(LookupError):
        await kit.client.enqueue_many(calls())
    assert await kit.client.redis.zcard(kit.queue_key) == 1000


async def test_many_calls_of_a_cancelled_caller_leave_nothing_behind(kit: Kit) -> None:
    @kit.registry.job(queue=kit.queue)
    async def work(n: int) -> None: ...

    def calls() -> Iterator[Call[None]]:
        yield work.call(1)
        cancelled.cancel()

    before = asyncio.all_tasks()
    cancelled = asyncio.create_task(kit.client.enqueue_many(calls()))
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert asyncio.all_tasks() == before
