import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support import Kit, eventually
from worker import ConcurrencyLimit, RateLimit, State, chain, group
from worker.broker.inspect import WorkerRecord
from worker.broker.job_facts import JobFacts
from worker.client.diagnosis import Reason, reasons
from worker.core.errors import JobNotFound


async def why(kit: Kit, job_id: str) -> Reason:
    (reason,) = await kit.client.why(job_id)
    return reason


async def test_job_that_is_not_due_says_when(kit: Kit) -> None:
    @kit.registry.job()
    async def work() -> None: ...

    handle = await kit.enqueue(work, delay=60)
    reason = await why(kit, handle.id)
    assert reason.kind == "due"
    assert reason.until is not None
    assert timedelta(seconds=55) < reason.until - datetime.now(UTC) < timedelta(seconds=61)


async def test_queue_without_workers_and_job_without_a_worker_that_knows_it(kit: Kit) -> None:
    @kit.registry.job()
    async def work() -> None: ...

    handle = await kit.enqueue(work)
    assert (await why(kit, handle.id)).kind == "no_worker_serves"
    await kit.client.pause_queue(kit.queue)
    async with kit.worker():
        await eventually(lambda: served(kit))
        stranger = await kit.client.arq.enqueue_job("stranger", _queue_name=kit.queue_key)
        assert stranger is not None
        kinds = [reason.kind for reason in await kit.client.why(stranger.job_id)]
        assert kinds == ["queue_paused", "no_worker_knows"]
        assert (await why(kit, handle.id)).kind == "queue_paused"
    await kit.client.resume_queue(kit.queue)


async def served(kit: Kit) -> bool:
    return any(kit.queue in worker.queues for worker in await kit.client.workers())


async def test_limits_say_who_holds_them_and_when_there_is_room(kit: Kit) -> None:
    @kit.registry.job(limits=[ConcurrencyLimit(1)])
    async def one() -> None:
        await asyncio.sleep(30)

    @kit.registry.job(name=f"rated-{kit.queue}", limits=[RateLimit("1/h")])
    async def rare() -> None: ...

    async with kit.worker():
        holder = await kit.enqueue(one)
        await kit.reaches(holder.id, State.RUNNING)
        behind = await kit.enqueue(one)
        done = await kit.enqueue(rare)
        await kit.ended(done.id)
        late = await kit.enqueue(rare)
        reason = await why(kit, behind.id)
        assert (reason.kind, reason.jobs) == ("limit", (holder.id,))
        reason = await why(kit, late.id)
        assert reason.kind == "rate"
        assert reason.until is not None
        assert timedelta(minutes=59) < reason.until - datetime.now(UTC) < timedelta(minutes=61)
        assert await kit.client.why(holder.id) == []
        assert await kit.client.why(done.id) == []
        await holder.cancel()


async def test_step_says_which_steps_it_waits_for(kit: Kit) -> None:
    @kit.registry.job(queue=kit.queue)
    async def work(value: Any = None) -> Any:
        return value

    handle = await chain(group(work.s(n) for n in range(12)), work.s()).enqueue()
    steps = {step.node: step for step in (await handle.workflow()).steps}
    last = steps[max(steps)].job_id
    assert last is not None
    reason = await why(kit, last)
    assert reason.kind == "steps"
    assert "12 steps" in reason.message
    assert len(reason.jobs) == 10
    assert set(reason.jobs) <= {step.job_id for step in steps.values()}
    await kit.drain()
    assert await kit.client.why(last) == []


async def test_place_in_line_counts_levels_above(kit: Kit) -> None:
    @kit.registry.job()
    async def work() -> None:
        await asyncio.sleep(30)

    async with kit.worker(concurrency=1):
        running = await kit.enqueue(work)
        await kit.reaches(running.id, State.RUNNING)
        for priority in ("high", "normal", "normal"):
            await kit.enqueue(work, priority=priority)
            await asyncio.sleep(0.002)
        handle = await kit.enqueue(work)
        low = await kit.enqueue(work, priority="low")
        assert (await why(kit, handle.id)).ahead == 3
        assert (await why(kit, low.id)).ahead == 4
        await kit.client.purge_queue(kit.queue)
        await running.cancel()


def worker_record(**fields: Any) -> WorkerRecord:
    known: dict[str, Any] = {"queues": ["q"], "jobs": ["work"], "rate": 10.0} | fields
    return WorkerRecord(id="w", host="h", pid=1, concurrency=1, running=1, started_at=0, **known)


def test_estimate_takes_the_rates_of_workers_that_could_run_it() -> None:
    facts = JobFacts(now=1_000_000, job="work", queue="arq:queue:q", due=999_000, ahead=100)
    workers = [worker_record(), worker_record(rate=15.0), worker_record(jobs=["other"]), worker_record(queues=["r"])]
    (reason,) = reasons(facts, workers)
    assert reason.kind == "in_line"
    assert reason.until == datetime.fromtimestamp(1004, UTC)


async def test_job_that_was_requeued_because_nobody_knows_it_says_so(kit: Kit) -> None:
    @kit.registry.job()
    async def work() -> None: ...

    async with kit.worker():
        await eventually(lambda: served(kit))
        stranger = await kit.client.arq.enqueue_job("stranger", _queue_name=kit.queue_key)
        assert stranger is not None

        async def requeued() -> bool:
            return (await kit.client.find(stranger.job_id)).state is State.DEFERRED

        await eventually(requeued)
        unknown, due = await kit.client.why(stranger.job_id)
        assert (unknown.kind, due.kind) == ("no_worker_knows", "due")
        assert unknown.message == f"no live worker of queue {kit.queue} knows job stranger"
        later = await kit.enqueue(work, delay=60)
        assert (await why(kit, later.id)).kind == "due"


async def test_former_name_of_a_job_is_known(kit: Kit) -> None:
    @kit.registry.job(aliases=("former",))
    async def work() -> None: ...

    async with kit.worker(concurrency=1):
        await eventually(lambda: served(kit))
        await kit.client.pause_queue(kit.queue)
        job = await kit.client.arq.enqueue_job("former", _queue_name=kit.queue_key)
        assert job is not None
        assert (await why(kit, job.job_id)).kind == "queue_paused"
        await kit.client.resume_queue(kit.queue)


async def test_queue_that_only_plain_arq_serves_is_called_neither_unserved_nor_unknown(kit: Kit) -> None:
    job = await kit.client.arq.enqueue_job("stranger", _queue_name=kit.queue_key)
    assert job is not None
    assert "no_worker_serves" in [reason.kind for reason in await kit.client.why(job.job_id)]
    await kit.client.redis.psetex(f"{kit.queue_key}:health-check", 60_000, b"arq says that it lives")
    assert (await why(kit, job.job_id)).kind == "in_line"
    await kit.client.redis.delete(f"{kit.queue_key}:health-check")


def test_worker_that_does_not_say_what_it_knows_may_know_it() -> None:
    facts = JobFacts(now=1_000_000, job="work", queue="arq:queue:q", due=999_000)
    silent, strange = worker_record(jobs=[]), worker_record(jobs=["other"])
    assert [reason.kind for reason in reasons(facts, [silent, strange])] == ["in_line"]
    assert [reason.kind for reason in reasons(facts, [strange])] == ["no_worker_knows"]


def test_unserved_queue_names_those_that_are_served() -> None:
    facts = JobFacts(now=1_000_000, job="work", queue="arq:queue:q", due=999_000)
    workers = [worker_record(queues=[f"q{n}" for n in range(7)])]
    assert reasons(facts, workers)[0].message.endswith("those that live serve q0, q1, q2, q3, q4, ...")
    assert reasons(facts, [])[0].message == "no live worker serves queue q: none lives"


async def test_unknown_job(kit: Kit) -> None:
    with pytest.raises(JobNotFound):
        await kit.client.why("nobody")
