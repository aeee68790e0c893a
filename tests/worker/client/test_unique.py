import asyncio
from typing import Any

import pytest

from tests.support import Kit
from worker import JobDefinition, State
from worker.core.errors import InvalidOptions
from worker.core.options import check_options


@pytest.fixture
def ran() -> list[Any]:
    return []


@pytest.fixture
def note(kit: Kit, ran: list[Any]) -> JobDefinition[..., Any]:
    @kit.registry.job()
    async def note(user: int, text: str = "") -> None:
        ran.append((user, text))

    return note


async def test_calls_with_the_same_arguments_are_one_job_for_a_time(
    kit: Kit, note: JobDefinition[..., Any], ran: list[Any]
) -> None:
    first = await kit.enqueue(note, {"user": 1}, unique_for=0.5)
    second = await kit.enqueue(note, {"user": 1}, unique_for=0.5)
    other = await kit.enqueue(note, {"user": 2}, unique_for=0.5)
    assert (second.id, second.created) == (first.id, False)
    assert other.created
    await kit.drain()
    assert not (await kit.enqueue(note, {"user": 1}, unique_for=0.5)).created  # also after it has ended
    await asyncio.sleep(0.55)
    assert (await kit.enqueue(note, {"user": 1}, unique_for=0.5)).created
    await kit.drain()
    assert sorted(ran) == [(1, ""), (1, ""), (2, "")]


async def test_a_key_stands_for_the_arguments(kit: Kit, note: JobDefinition[..., Any]) -> None:
    first = await kit.enqueue(note, {"user": 1, "text": "a"}, unique_for=60, unique_key="user-1")
    second = await kit.enqueue(note, {"user": 1, "text": "b"}, unique_for=60, unique_key="user-1")
    assert second.id == first.id


async def test_many_callers_at_once_make_one_job(kit: Kit, note: JobDefinition[..., Any], ran: list[Any]) -> None:
    handles = await asyncio.gather(*(kit.enqueue(note, {"user": 77}, unique_for=60) for _ in range(50)))
    assert sum(handle.created for handle in handles) == 1
    assert len({handle.id for handle in handles}) == 1
    await kit.drain()
    assert len(ran) == 1


async def test_declared_uniqueness_holds_for_every_call(kit: Kit, ran: list[Any]) -> None:
    @kit.registry.job(unique_for=60, queue=kit.queue)
    async def report(day: int) -> None:
        ran.append(day)

    handles = await kit.client.enqueue_many(report.call(day) for day in (1, 2, 1, 1))
    assert [handle.created for handle in handles] == [True, True, False, False]


async def test_debounced_job_runs_once_after_the_last_call_with_its_arguments(
    kit: Kit, note: JobDefinition[..., Any], ran: list[Any]
) -> None:
    key: Any = {"debounce": 0.4, "unique_key": "save"}
    async with kit.worker():
        ids = set()
        for text in "abc":
            handle = await kit.enqueue(note, {"user": 1, "text": text}, **key)
            ids.add(handle.id)
            await asyncio.sleep(0.2)
            assert ran == []
        assert len(ids) == 1
        await kit.ended(ids.pop())
        assert ran == [(1, "c")]
        again = await kit.enqueue(note, {"user": 1, "text": "d"}, **key)
        assert again.created
        await kit.ended(again.id)
    assert ran == [(1, "c"), (1, "d")]


async def test_throttled_job_runs_at_once_then_at_most_once_in_its_time(
    kit: Kit, note: JobDefinition[..., Any], ran: list[Any]
) -> None:
    key: Any = {"throttle": 0.6, "unique_key": "sync"}
    async with kit.worker():
        first = await kit.enqueue(note, {"user": 1, "text": "a"}, **key)
        await kit.ended(first.id, 0.5)
        second = await kit.enqueue(note, {"user": 1, "text": "b"}, **key)
        third = await kit.enqueue(note, {"user": 1, "text": "c"}, **key)
        assert (second.created, third.created, third.id) == (True, False, second.id)
        assert (await second.job()).state is State.DEFERRED
        job = await kit.ended(second.id)
        begun = (await first.job()).started_at
        assert begun is not None
        assert job.started_at is not None
        assert 0.55 < (job.started_at - begun).total_seconds() < 1.5
    assert ran == [(1, "a"), (1, "c")]


async def test_replaced_call_may_name_another_queue(kit: Kit, note: JobDefinition[..., Any]) -> None:
    other = f"{kit.queue}-other"
    first = await kit.enqueue(note, {"user": 1}, debounce=60, unique_key="x")
    await kit.enqueue(note, {"user": 2}, debounce=60, unique_key="x", queue=other)
    job = await first.job()
    assert (job.queue, job.args["user"]) == (other, 2)
    assert await kit.client.redis.zcard(kit.queue_key) == 0


async def test_contradicting_options_are_refused() -> None:
    for options in ({"debounce": 1, "throttle": 1}, {"delay": 1, "debounce": 1}, {"unique_for": 1, "throttle": 2}):
        with pytest.raises(InvalidOptions, match="choose one of the two"):
            check_options("x", options)


async def test_kinds_of_unique_calls_may_meet_under_one_key(kit: Kit) -> None:
    @kit.registry.job()
    async def work(n: int) -> int:
        return n

    first = await kit.enqueue(work, {"n": 1}, unique_for=60, unique_key=kit.queue)
    for option in ("throttle", "debounce", "unique_for", "throttle"):
        same = await kit.enqueue(work, {"n": 2}, unique_key=kit.queue, **{option: 0.01})
        assert same.id == first.id
    await asyncio.sleep(0.02)
    await kit.drain()
    assert await first.result(15) == 2
