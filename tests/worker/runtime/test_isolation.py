"""Suspects are told apart by halves: who lost two leases in a row runs in ever smaller groups, beside nobody else."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from tests.support import Gauge, Kit
from worker import ConcurrencyLimit, Priority, State
from worker.broker.exchange import Ack, Claimed, ClaimRequest, Ended, Requeue
from worker.broker.suspects import SuspectQueues
from worker.core import keys
from worker.core.config import Suspects
from worker.runtime.actions import Ask
from worker.runtime.events import Brought
from worker.runtime.isolation import PATIENCE, Isolation, Turn

LEASE_MS = 30
_numbers = itertools.count(1)


def request(kit: Kit, *, suspects: bool, limit: int = 100, worker: str = "killed") -> ClaimRequest:
    return ClaimRequest(worker, next(_numbers), [kit.queue_key], limit, LEASE_MS, suspects=suspects)


async def claim(kit: Kit, *, suspects: bool = False, limit: int = 100, worker: str = "killed") -> list[Claimed]:
    """Jobs of a worker that falls silent: their leases are over when this returns. A `deaf` one never hears of them."""
    asked = request(kit, suspects=suspects, limit=limit, worker=worker)
    _, brought = await kit.client.queue_store.exchange([], asked)
    assert brought is not None
    if worker != "deaf":
        await kit.client.queue_store.heard(worker, asked.number)
    await asyncio.sleep(LEASE_MS / 1000 + 0.02)
    return brought.jobs


async def enqueue(kit: Kit, count: int) -> list[str]:
    @kit.registry.job()
    async def innocent() -> str:
        return "done"

    return [(await kit.enqueue(innocent)).id for _ in range(count)]


async def suspects(kit: Kit, count: int) -> list[str]:
    """Jobs that lost two leases, and are parked."""
    job_ids = await enqueue(kit, count)
    for _ in range(2):
        assert len(await claim(kit)) == count
    assert await claim(kit) == []
    return job_ids


async def sizes(kit: Kit) -> list[int]:
    found: list[bytes] = await kit.client.redis.execute_command(
        "ZRANGE", keys.SUSPECTS_IN + kit.queue_key, 0, -1, "WITHSCORES"
    )
    return [int(score) for score in found[1::2]]


async def left(kit: Kit, job_ids: Sequence[str]) -> list[str]:
    """What is still known of the suspicion of these jobs."""
    about: list[bytes | None] = await kit.client.redis.execute_command("HMGET", keys.SUSPECTED, *job_ids)
    parked = await kit.client.redis.zcard(keys.SUSPECTS_IN + kit.queue_key)
    return [*(each.decode() for each in about if each), *["parked"] * parked]


async def settle(kit: Kit, jobs: Sequence[Claimed], *, requeue: bool = False) -> None:
    outcome = Requeue(0, released=True) if requeue else Ended(State.SUCCEEDED, b'{"s":true}', 60_000)
    stored, _ = await kit.client.queue_store.exchange([Ack(job, outcome) for job in jobs], None)
    assert all(stored)


async def take(kit: Kit, limit: int = 100, *, heard: bool = True) -> list[Claimed]:
    """A group of suspects under a lease that holds."""
    asked = ClaimRequest("alive", next(_numbers), [kit.queue_key], limit, 60_000, suspects=True)
    _, brought = await kit.client.queue_store.exchange([], asked)
    assert brought is not None
    if heard:
        await kit.client.queue_store.heard("alive", asked.number)
    return brought.jobs


async def lose(kit: Kit, jobs: Sequence[Claimed]) -> None:
    """The leases of these jobs end now, and an ordinary claim looks at them."""
    await kit.client.redis.delete(*[keys.LEASE + job.id for job in jobs])
    await kit.client.redis.zadd(kit.queue_key, {job.id: 1 for job in jobs})
    assert await claim(kit) == []


async def test_one_lost_lease_makes_no_suspect(kit: Kit) -> None:
    job_ids = await enqueue(kit, 3)
    await claim(kit)
    assert len(await claim(kit, suspects=True)) == 0
    await kit.drain()
    assert {(await kit.ended(job_id)).tries for job_id in job_ids} == {2}


async def test_two_make_one_that_ordinary_claims_leave_alone_and_look_ups_explain(kit: Kit) -> None:
    job_ids = await suspects(kit, 2)
    assert await claim(kit) == []
    job = await kit.client.find(job_ids[0])
    assert (job.state, job.scheduled_for) == (State.QUEUED, None)
    async with kit.worker(suspects=Suspects.ELSEWHERE):
        reasons = {reason.kind: reason.message for reason in await kit.client.why(job_ids[0])}
        assert "lost 2 times in a row" in reasons["isolation"]
        fresh = await kit.enqueue(kit.registry.get("innocent"))
        assert await fresh.result(timeout=5) == "done"
    waiting = SuspectQueues(kit.client.redis)
    assert await waiting.groups({kit.queue}) == {kit.queue_key: 1}
    assert await waiting.groups({"another"}) == {}
    assert (await waiting.groups(None))[kit.queue_key] == 1


async def test_groups_are_halved_until_the_one_who_does_it_is_alone(kit: Kit) -> None:
    """One of 41 ends its worker. Whatever group it is in is lost; the others end well, and it alone is judged."""
    job_ids = await suspects(kit, 41)
    killer = job_ids[0]
    together = []
    while True:
        jobs = await take(kit)
        assert killer in [job.id for job in jobs] or not any(job.was_alone for job in jobs)
        if any(job.was_alone for job in jobs):
            break
        together.append(len(jobs))
        await lose(kit, jobs) if killer in [job.id for job in jobs] else await settle(kit, jobs)
    assert sorted(together, reverse=True) == [32, 16, 16, 9, 8, 8, 4, 4, 2, 2, 1]
    (judged,) = jobs
    assert (judged.id, judged.leases_lost) == (killer, 8)
    await settle(kit, [*jobs, *await take(kit)])  # and the last one who was beside it
    assert await left(kit, job_ids) == []
    assert await kit.client.redis.exists(kit.queue_key) == 0


async def test_alone_at_the_last_loss(kit: Kit) -> None:
    (job_id,) = await suspects(kit, 1)
    (first,) = await claim(kit, suspects=True)
    assert (first.leases_lost, first.was_alone) == (2, False)
    await claim(kit)
    (second,) = await take(kit)
    assert (second.leases_lost, second.was_alone) == (3, True)
    await settle(kit, [second])
    assert await left(kit, [job_id]) == []


async def test_alone_in_a_claim_that_nobody_heard_of_is_no_proof(kit: Kit) -> None:
    (job_id,) = await suspects(kit, 1)
    await claim(kit, suspects=True, worker="deaf")
    await claim(kit)
    (job,) = await take(kit)
    assert (job.leases_lost, job.was_alone) == (2, False)
    assert await sizes(kit) == []
    assert job.id == job_id


async def test_suspect_of_an_answer_that_got_lost_is_given_back_as_a_suspect(kit: Kit) -> None:
    (job_id,) = await suspects(kit, 1)
    (job,) = await take(kit, heard=False)
    await kit.client.queue_store.exchange([], None, ("alive", (int(job.number),)))
    assert await claim(kit) == []
    (again,) = await take(kit)
    assert (again.id, again.leases_lost, again.was_alone) == (job_id, 2, False)


@pytest.mark.parametrize("how", ["settled", "requeued", "cancelled", "purged", "result not kept"])
async def test_nothing_is_left_of_the_suspicion(kit: Kit, how: str) -> None:
    job_ids = await suspects(kit, 3)
    if how == "cancelled":
        for job_id in job_ids:
            assert await kit.client.cancel(job_id) is State.CANCELLED
    elif how == "purged":
        assert await kit.client.purge_queue(kit.queue) == 3
    else:
        await settle(kit, await take(kit), requeue=how == "requeued")
    assert await left(kit, job_ids) == []
    if how == "requeued":
        await kit.drain()
        assert {(await kit.ended(job_id)).state for job_id in job_ids} == {State.SUCCEEDED}


async def test_suspect_that_the_release_before_cancelled_is_forgotten(kit: Kit) -> None:
    (job_id,) = await suspects(kit, 1)
    await kit.client.redis.delete(keys.JOB + job_id, keys.TRIES + job_id, keys.RUN + job_id)
    await kit.client.redis.zrem(kit.queue_key, job_id)
    assert await take(kit) == []
    assert await left(kit, [job_id]) == []


async def test_suspects_that_are_too_large_for_one_answer_come_with_the_next(kit: Kit) -> None:
    @kit.registry.job()
    async def large(text: str) -> None: ...

    text = "x" * (keys.CLAIM_BYTES + 1)
    levels = [keys.queue_key(kit.queue, priority) for priority in (Priority.HIGH, Priority.NORMAL)]
    for priority in (Priority.HIGH, Priority.NORMAL):
        await kit.enqueue(large, {"text": text}, priority=priority)
    taken: list[list[str]] = []
    for number, suspects in enumerate((False,) * 6 + (True,) * 3, 500):
        asked = ClaimRequest("alive", number, levels, 9, 60_000 if suspects else LEASE_MS, suspects=suspects)
        _, answer = await kit.client.queue_store.exchange([], asked)
        assert answer is not None
        await kit.client.queue_store.heard("alive", number)
        taken.append([job.queue_key for job in answer.jobs])
        await asyncio.sleep(LEASE_MS / 1000 + 0.02)
    assert sum(len(each) for each in taken[:6]) == 4
    assert sorted(taken[6:]) == sorted([[levels[0]], [levels[1]], []])


async def test_paused_queues_keep_their_suspects(kit: Kit) -> None:
    await suspects(kit, 1)
    await kit.client.pause_queue(kit.queue)
    assert (await take(kit), await SuspectQueues(kit.client.redis).groups({kit.queue})) == ([], {})
    await kit.client.resume_queue(kit.queue)
    assert await SuspectQueues(kit.client.redis).groups({kit.queue}) == {kit.queue_key: 1}
    assert len(await take(kit)) == 1


async def test_suspect_over_a_limit_waits_for_its_place_and_stays_suspect(kit: Kit) -> None:
    @kit.registry.job(limits=[ConcurrencyLimit(1)])
    async def single() -> str:
        return "done"

    holder = await kit.enqueue(single)
    for _ in range(2):
        await claim(kit)
    await claim(kit)
    other = await kit.enqueue(single)
    _, answer = await kit.client.queue_store.exchange([], ClaimRequest("alive", 1, [kit.queue_key], 9, 60_000))
    assert answer is not None
    (held,) = answer.jobs
    assert held.id == other.id
    assert await take(kit) == []  # no place for the suspect
    await settle_limited(kit, held)
    async with kit.worker():
        assert (await kit.ended(holder.id)).state is State.SUCCEEDED
    assert await left(kit, [holder.id]) == []


async def settle_limited(kit: Kit, job: Claimed) -> None:
    limits = (f"c:1:0:{'single'}",)
    ended = Ended(State.SUCCEEDED, b'{"s":true}', 60_000)
    await kit.client.queue_store.exchange([Ack(job, ended, limits)], None)


@pytest.mark.parametrize("burst", [True, False])
async def test_library_worker_runs_suspects_beside_nothing_else(kit: Kit, burst: bool) -> None:
    gauge = Gauge()
    beside: list[str] = []

    @kit.registry.job()
    async def suspect() -> None:
        with gauge:
            await asyncio.sleep(0.05)

    @kit.registry.job()
    async def other() -> None:
        if gauge.now:
            beside.append("a suspect")

    job_ids = [(await kit.enqueue(suspect)).id for _ in range(4)]
    for _ in range(2):
        await claim(kit)
    others = [(await kit.enqueue(other)).id for _ in range(20)]
    if burst:
        await kit.drain()
    else:
        async with kit.worker():
            for job_id in [*job_ids, *others]:
                await kit.ended(job_id)
    assert {(await kit.ended(job_id)).state for job_id in [*job_ids, *others]} == {State.SUCCEEDED}
    assert (gauge.most, beside) == (4, [])


async def test_isolated_worker_takes_nothing_but_suspects_and_ends(kit: Kit) -> None:
    job_ids = await suspects(kit, 3)
    fresh = await kit.enqueue(kit.registry.get("innocent"))
    await kit.drain(suspects=Suspects.ONLY)
    assert {(await kit.ended(job_id)).state for job_id in job_ids} == {State.SUCCEEDED}
    assert (await fresh.job()).state is State.QUEUED


def brought(jobs: int = 0, suspects: int = 0) -> Brought[Any]:
    return Brought([object()] * jobs, None, False, suspects)


def test_turns_of_a_worker_that_is_never_idle() -> None:
    isolation = Isolation(Suspects.HERE, slots=10)
    others, own = (Ask(1, 1, suspects=each) for each in (False, True))
    assert isolation.turn(5, 0.0) is Turn.OTHERS
    isolation.heard(others, brought(1, suspects=7), 0.0)
    isolation.heard(others, brought(1, suspects=7), PATIENCE - 1)
    assert isolation.turn(5, PATIENCE - 1) is Turn.OTHERS
    assert isolation.turn(5, PATIENCE) is Turn.NOTHING
    assert (isolation.turn(0, PATIENCE), isolation.limit(10)) == (Turn.SUSPECTS, 5)
    isolation.heard(own, brought(5, suspects=2), PATIENCE)
    assert isolation.turn(5, PATIENCE) is Turn.NOTHING
    assert isolation.turn(0, PATIENCE) is Turn.OTHERS
    isolation.heard(others, brought(1, suspects=2), PATIENCE)
    assert isolation.turn(1, 2 * PATIENCE - 1) is Turn.OTHERS
    isolation.heard(others, brought(1), 2 * PATIENCE - 1)
    assert isolation.turn(1, 3 * PATIENCE) is Turn.OTHERS


async def test_worker_whose_process_starts_others_for_suspects_leaves_them(kit: Kit) -> None:
    (job_id,) = await suspects(kit, 1)
    await kit.drain(suspects=Suspects.ELSEWHERE)
    assert await left(kit, [job_id]) == ["32 0 0", "parked"]
    async with kit.worker():
        assert (await kit.ended(job_id)).state is State.SUCCEEDED


async def test_burst_leaves_suspects_while_jobs_of_another_queue_wait_for_a_limit(kit: Kit) -> None:
    @kit.registry.job(limits=[ConcurrencyLimit(1)])
    async def single() -> None: ...

    other = f"{kit.queue}-other"
    for _ in range(2):
        await kit.enqueue(single, queue=other)
    _, answer = await kit.client.queue_store.exchange([], ClaimRequest("alive", 1, [keys.queue_key(other)], 9, 60_000))
    assert answer is not None
    assert len(answer.jobs) == 1
    await suspects(kit, 1)
    await kit.drain(suspects=Suspects.ELSEWHERE)


async def test_of_many_workers_one_starts_another_for_a_group(kit: Kit) -> None:
    waiting = SuspectQueues(kit.client.redis)
    await suspects(kit, 35)
    assert await waiting.groups({kit.queue}) == {kit.queue_key: 2}
    asked = [await waiting.reserve(kit.queue_key, number) for number in (0, 1, 0, 1)]
    assert asked == [True, True, False, False]
