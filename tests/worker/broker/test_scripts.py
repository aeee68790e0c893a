"""The transitions, one script at a time: what is written, what is refused, what a second run does."""

import asyncio
from typing import Any

import pytest

from tests.support import Kit
from worker.broker.encoding import new_id
from worker.broker.events import latest
from worker.broker.exchange import Ack, Claim, Claimed, ClaimRequest, Ended, Requeue
from worker.broker.queue_store import NewJob, Renewal
from worker.core import keys
from worker.core.job import State

LEASE_MS = 5000


def new_job(kit: Kit, **fields: Any) -> NewJob:
    request_id = new_id()
    payload = f'{{"t":null,"f":"x","a":[],"k":{{}},"o":{{"z":"{kit.queue_key}"}},"n":"{request_id}"}}'.encode()
    return NewJob(**{"id": new_id(), "queue_key": kit.queue_key, "request_id": request_id, "payload": payload} | fields)


def named(kit: Kit, worker: str = "w1") -> str:
    """A worker of this test alone: others claimed under the same numbers in this Redis."""
    return f"{worker}-{kit.queue}"


async def claim(kit: Kit, worker: str = "w1", number: int = 1, limit: int = 10, lease_ms: int = LEASE_MS) -> Claim:
    request = ClaimRequest(named(kit, worker), number, [kit.queue_key], limit, lease_ms)
    _, claim = await kit.client.queue_store.exchange([], request)
    assert claim is not None
    return claim


async def claim_one(kit: Kit, **options: Any) -> Claimed:
    (claimed,) = (await claim(kit, **options)).jobs
    return claimed


async def settle(kit: Kit, claimed: Claimed, outcome: Ended | Requeue) -> bool:
    stored, _ = await kit.client.queue_store.exchange([Ack(claimed, outcome)], None)
    return stored[0]


def success(claimed: Claimed) -> Ended:
    result = (
        f'{{"t":1,"f":"x","a":[],"k":{{}},"et":1,"s":true,"r":null,"st":1,"ft":1,"state":"succeeded",'
        f'"lease":"{claimed.token}"}}'
    )
    return Ended(State.SUCCEEDED, result.encode(), 60_000)


async def test_enqueue_twice_with_one_request_id_says_created_twice(kit: Kit) -> None:
    job = new_job(kit)
    assert await kit.client.queue_store.enqueue([job]) == [(job.id, True)]
    assert await kit.client.queue_store.enqueue([job]) == [(job.id, True)]
    assert await kit.client.redis.zcard(kit.queue_key) == 1


async def test_enqueue_with_another_request_id_says_it_exists(kit: Kit) -> None:
    job = new_job(kit)
    assert await kit.client.queue_store.enqueue([job, new_job(kit, id=job.id)]) == [(job.id, True), (job.id, False)]


async def test_enqueue_repeated_after_the_end_runs_nothing_again(kit: Kit) -> None:
    job = new_job(kit)
    await kit.client.queue_store.enqueue([job])
    claimed = await claim_one(kit)
    result = f'{{"lease":"{claimed.token}","n":"{job.request_id}"}}'.encode()
    ended = Ended(State.SUCCEEDED, result, 0, trace=result)
    assert await settle(kit, claimed, ended)
    assert await settle(kit, claimed, ended), "a repeated ack finds its trace"
    assert await kit.client.queue_store.enqueue([job]) == [(job.id, True)]
    assert await kit.client.redis.zcard(kit.queue_key) == 0


async def test_id_of_a_job_without_result_is_free_at_its_end(kit: Kit) -> None:
    job = new_job(kit)
    await kit.client.queue_store.enqueue([job])
    claimed = await claim_one(kit)
    result = f'{{"lease":"{claimed.token}","n":"{job.request_id}"}}'.encode()
    assert await settle(kit, claimed, Ended(State.SUCCEEDED, result, 0, trace=result))
    assert await kit.client.redis.exists(keys.RESULT + job.id) == 0
    assert await kit.client.queue_store.enqueue([new_job(kit, id=job.id)]) == [(job.id, True)]
    assert (await claim_one(kit, number=2)).id == job.id


async def test_claim_keeps_the_id_in_the_queue_with_the_lease_as_score(kit: Kit) -> None:
    await kit.client.queue_store.enqueue([new_job(kit)])
    claimed = await claim_one(kit)
    assert await kit.client.redis.zscore(kit.queue_key, claimed.id) == claimed.claimed_ms + LEASE_MS
    assert await kit.client.redis.get(keys.LEASE + claimed.id) == claimed.token.encode()
    assert (await claim(kit, worker="w2")).jobs == []


async def test_racing_claims_share_no_job(kit: Kit) -> None:
    jobs = [new_job(kit) for _ in range(200)]
    await kit.client.queue_store.enqueue(jobs)
    claims = await asyncio.gather(*(claim(kit, worker=f"w{n}", limit=30) for n in range(10)))
    taken = [claimed.id for each in claims for claimed in each.jobs]
    assert sorted(taken) == sorted(job.id for job in jobs)


async def test_claim_tells_of_more_and_of_the_next_due_time(kit: Kit) -> None:
    await kit.client.queue_store.enqueue([new_job(kit), new_job(kit)])
    first = await claim(kit, limit=1)
    assert first.more
    await claim(kit, number=2)
    await kit.client.queue_store.enqueue([new_job(kit, delay_ms=700)])
    idle = await claim(kit, number=3)
    assert not idle.more
    assert idle.next_due_in is not None
    assert 0.5 < idle.next_due_in <= 0.7


async def test_settling_twice_is_stored_once_and_said_twice(kit: Kit) -> None:
    await kit.client.queue_store.enqueue([new_job(kit)])
    claimed = await claim_one(kit)
    assert await settle(kit, claimed, success(claimed))
    assert await settle(kit, claimed, success(claimed))
    events = await latest(kit.client.redis)
    assert sum(event.job_id == claimed.id and event.name == "succeeded" for event in events) == 1


@pytest.mark.parametrize("released", [True, False])
async def test_putting_back_twice_counts_once(kit: Kit, released: bool) -> None:
    await kit.client.queue_store.enqueue([new_job(kit)])
    claimed = await claim_one(kit)
    for _ in range(2):
        assert await settle(kit, claimed, Requeue(0, released=released))
    again = await claim_one(kit, number=2)
    assert again.tries == (1 if released else 2)
    assert again.leases_lost == 0


@pytest.mark.arq_defect(3)
async def test_late_result_of_a_lost_lease_is_refused(kit: Kit) -> None:
    await kit.client.queue_store.enqueue([new_job(kit)])
    late = await claim_one(kit, lease_ms=30)
    await kit.client.queue_store.heard(late.worker, int(late.number))
    await asyncio.sleep(0.06)
    assert not await settle(kit, late, success(late))
    live = await claim_one(kit, worker="w2", number=2)
    assert live.leases_lost == 1
    assert not await settle(kit, late, success(late))
    assert await kit.client.redis.get(keys.LEASE + live.id) == live.token.encode()
    assert await settle(kit, live, success(live))


async def test_renewal_extends_and_reports_losses(kit: Kit) -> None:
    await kit.client.queue_store.enqueue([new_job(kit), new_job(kit)])
    held, lost = (await claim(kit)).jobs
    await kit.client.redis.delete(keys.LEASE + lost.id)
    renewed = await kit.client.queue_store.renew(60_000, [Renewal(held, b'{"c":1}'), Renewal(lost)])
    assert renewed.lost == [lost.id]
    assert await kit.client.redis.pttl(keys.LEASE + held.id) > 55_000
    assert await kit.client.redis.zscore(kit.queue_key, held.id) > held.claimed_ms + 55_000


@pytest.mark.arq_defect(6)
async def test_ids_held_by_plain_arq_do_not_fill_the_batch(kit: Kit) -> None:
    for n in range(150):
        await kit.client.redis.set(f"{keys.LEASE}{kit.queue}-{n}", b"1", px=5000)
        await kit.client.redis.zadd(kit.queue_key, {f"{kit.queue}-{n}": n + 1})
    await kit.client.queue_store.enqueue([new_job(kit) for _ in range(10)])
    assert len((await claim(kit, limit=10)).jobs) == 10
    assert await kit.client.redis.zscore(kit.queue_key, f"{kit.queue}-7") == 8


async def test_scripts_come_back_after_a_script_flush(kit: Kit) -> None:
    await kit.client.queue_store.enqueue([new_job(kit)])
    claimed = await claim_one(kit)
    await kit.client.queue_store.enqueue([new_job(kit)])
    await kit.client.redis.script_flush()
    request = ClaimRequest(named(kit), 2, [kit.queue_key], 10, LEASE_MS)
    stored, claim = await kit.client.queue_store.exchange([Ack(claimed, success(claimed))], request)
    assert stored == [True]
    assert claim is not None
    assert len(claim.jobs) == 1


async def test_wake_list_stays_bounded(kit: Kit) -> None:
    for _ in range(50):
        await kit.client.queue_store.enqueue([new_job(kit)])
    assert await kit.client.redis.execute_command("LLEN", keys.wake_key(kit.queue)) == 1


async def test_claim_ends_at_a_lease_in_its_last_millisecond(kit: Kit) -> None:
    """A key lives through the millisecond in which it expires, with no time left."""
    job = new_job(kit)
    await kit.client.queue_store.enqueue([job])
    for _ in range(300):
        await kit.client.redis.set(keys.LEASE + job.id, f"{keys.TOKEN}gone:1", px=1)
        await kit.client.redis.zadd(kit.queue_key, {job.id: 1})
        for claimed in (await claim(kit, lease_ms=1)).jobs:
            assert claimed.id == job.id


async def ask_back(kit: Kit, number: int = 1) -> bool:
    """What a worker asks that did not hear of a claim; returns whether Redis remembers the claim."""
    await kit.client.queue_store.exchange([], None, (named(kit), [number]))
    return bool(await kit.client.redis.exists(f"{keys.CLAIMED}{named(kit)}:{number}"))


async def test_claim_that_was_given_back_is_forgotten(kit: Kit) -> None:
    await kit.client.queue_store.enqueue([new_job(kit), new_job(kit)])
    assert len((await claim(kit)).jobs) == 2
    assert not await ask_back(kit)
    assert [job.tries for job in (await claim(kit, "w2")).jobs] == [1, 1]


async def test_claim_that_redis_gets_to_late_is_given_back(kit: Kit) -> None:
    await kit.client.queue_store.enqueue([new_job(kit)])
    assert not await ask_back(kit)
    await claim_one(kit)
    assert not await ask_back(kit)
    assert (await claim_one(kit, worker="w2")).tries == 1


async def test_claim_is_remembered_while_a_job_of_it_can_start_as_the_same_try(kit: Kit) -> None:
    await kit.client.queue_store.enqueue([new_job(kit)])
    first = await claim_one(kit, lease_ms=1)
    await asyncio.sleep(0.02)
    assert await ask_back(kit)  # its lease has ended, and nobody has started it again
    again = await claim_one(kit, worker="w2")
    assert (again.id, again.tries, again.leases_lost) == (first.id, 1, 0)
    assert not await ask_back(kit)


async def test_claim_of_which_a_part_cannot_be_given_back_is_remembered(kit: Kit) -> None:
    broken, whole = new_job(kit), new_job(kit)
    await kit.client.queue_store.enqueue([broken, whole])
    await claim(kit)
    script = "return redis.call('SET', KEYS[1], cmsgpack.pack({{}, ARGV[1], ARGV[2], ARGV[1]}))"
    await kit.client.redis.eval(script, 1, f"{keys.CLAIMED}{named(kit)}:1", kit.queue_key, whole.id)  # type: ignore[misc]
    assert await ask_back(kit)
    assert (await claim_one(kit, worker="w2")).id == whole.id
