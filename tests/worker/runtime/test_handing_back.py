"""A worker that stops, is cancelled or fails leaves no job behind: what it holds goes back, and has ended before."""

import asyncio
import contextlib
import signal
import threading
import time
from urllib.parse import urlsplit

import pytest

from tests.support import CuttingProxy, Kit, eventually, logged
from worker import Client, ConcurrencyLimit, Priority, State, Worker, every
from worker.broker.events import latest
from worker.broker.exchange import Ack, Claimed, ClaimRequest, Ended, Requeue, urgent_first
from worker.broker.lease import LeaseKeeper
from worker.broker.opening import thread_client
from worker.core import keys
from worker.core.errors import BrokerUnavailable
from worker.execution.attempt import Attempt
from worker.runtime import runner
from worker.runtime.actions import Ask, Wait
from worker.runtime.events import Notified, Waited
from worker.runtime.planner import on


async def is_back(kit: Kit, job_id: str) -> bool:
    """Whether the job waits, free to be taken, and its try was given back."""
    job = await kit.client.find(job_id)
    return (job.state, job.tries, await kit.client.redis.exists(keys.LEASE + job_id)) == (State.QUEUED, 0, 0)


class Inside:
    """Who is in a job, and how many at most."""

    def __init__(self) -> None:
        self.count = 0
        self.began = asyncio.Event()

    async def stay(self) -> None:
        self.count += 1
        self.began.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)  # cleaning up
            self.count -= 1


async def test_cancelled_worker_hands_back_and_its_jobs_have_ended(kit: Kit) -> None:
    inside = Inside()

    @kit.registry.job()
    async def long() -> None:
        await inside.stay()

    handle = await kit.enqueue(long)
    worker = Worker(kit.client, kit.registry, kit.config(lease=60))
    working = asyncio.create_task(worker.async_run())
    await inside.began.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert inside.count == 0
    assert await is_back(kit, handle.id)


async def test_worker_whose_service_fails_hands_back_first(kit: Kit) -> None:
    inside = Inside()

    class Faulty:
        async def run(self) -> None:
            await inside.began.wait()
            raise OSError("a fault of its own")

    @kit.registry.job()
    async def long() -> None:
        await inside.stay()

    handle = await kit.enqueue(long)
    worker = Worker(kit.client, kit.registry, kit.config(lease=60), [Faulty()])
    with pytest.raises(ExceptionGroup) as raised:
        await worker.async_run()
    assert raised.group_contains(OSError)
    assert inside.count == 0
    assert await is_back(kit, handle.id)


async def test_worker_with_a_fault_of_its_own_hands_back_first(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = Inside()

    @kit.registry.job()
    async def long() -> None:
        await inside.stay()

    def broken(*_: object) -> None:
        raise LookupError("the planner is broken")

    handle = await kit.enqueue(long)
    worker = Worker(kit.client, kit.registry, kit.config(lease=60))
    working = asyncio.create_task(worker.async_run())
    await asyncio.wait_for(inside.began.wait(), 20)
    monkeypatch.setattr(runner, "next_actions", broken)
    worker.runner.tell(Notified())
    with pytest.raises(ExceptionGroup) as raised:
        await asyncio.wait_for(working, 20)
    assert raised.group_contains(LookupError)
    assert inside.count == 0
    assert await is_back(kit, handle.id)


@pytest.mark.parametrize("broken_part", ["on", "settle"])
async def test_fault_at_the_end_of_a_job_ends_the_worker_which_hands_back(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, broken_part: str
) -> None:
    inside, go = Inside(), asyncio.Event()

    @kit.registry.job()
    async def ends() -> None:
        await go.wait()

    @kit.registry.job()
    async def long() -> None:
        await inside.stay()

    def broken(*_: object) -> None:
        monkeypatch.undo()
        raise LookupError("broken")

    handles = [await kit.enqueue(ends), await kit.enqueue(long)]
    worker = Worker(kit.client, kit.registry, kit.config(lease=60))
    working = asyncio.create_task(worker.async_run())
    await asyncio.wait_for(inside.began.wait(), 20)
    await asyncio.sleep(0.2)  # nothing else happens now
    part: object = runner if broken_part == "on" else Attempt
    monkeypatch.setattr(part, broken_part, broken)
    go.set()
    with pytest.raises(ExceptionGroup) as raised:
        await asyncio.wait_for(working, 20)
    assert raised.group_contains(LookupError)
    assert inside.count == 0
    assert all([await is_back(kit, handle.id) for handle in handles])


async def test_cancelled_worker_gives_back_what_does_not_end(kit: Kit) -> None:
    """In 3 s, while its leases hold. The thread goes on, its task does not."""
    go = threading.Event()
    inside = threading.Event()

    @kit.registry.job()
    def deaf() -> None:
        inside.set()
        go.wait(30)

    handle = await kit.enqueue(deaf)
    worker = Worker(kit.client, kit.registry, kit.config(lease=60))
    working = asyncio.create_task(worker.async_run())
    await asyncio.to_thread(inside.wait, 10)
    task = worker.runs[handle.id].task
    began = time.monotonic()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert time.monotonic() - began < 4.0
    assert task is not None
    assert task.done()
    assert await is_back(kit, handle.id)
    assert worker.unsettled() == []
    assert not worker.runs
    go.set()


async def test_worker_that_is_cancelled_twice_still_gives_back(kit: Kit) -> None:
    inside = asyncio.Event()

    @kit.registry.job()
    async def stubborn() -> None:
        inside.set()
        for _ in range(3):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)

    handle = await kit.enqueue(stubborn)
    worker = Worker(kit.client, kit.registry, kit.config(lease=60))
    working = asyncio.create_task(worker.async_run())
    await inside.wait()
    working.cancel()
    await asyncio.sleep(0.1)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert await is_back(kit, handle.id)


@pytest.mark.parametrize("told", [1, 2])
async def test_job_of_a_claim_that_was_under_way_at_the_stop_is_given_back(kit: Kit, redis_url: str, told: int) -> None:
    """Redis has handed the job over by the blocking claim; its answer comes after the worker was told to stop."""

    @kit.registry.job(limits=[ConcurrencyLimit(1)])
    async def work() -> None:
        raise AssertionError("it was told to stop")

    async with (
        CuttingProxy(urlsplit(redis_url).port or 0).serve() as proxy,
        Client.open(f"redis://127.0.0.1:{proxy.port}") as behind,
    ):
        worker = Worker(behind, kit.registry, kit.config(lease=60, poll=30.0))
        working = asyncio.create_task(worker.async_run())

        async def stands() -> bool:
            blocked = (await kit.client.redis.info("clients"))["blocked_clients"]
            return blocked >= 2 and worker.state.wait is not None and worker.state.wait.ask is not None

        await eventually(stands)
        proxy.passes.clear()
        handle = await kit.enqueue(work)
        await kit.reaches(handle.id, State.RUNNING)
        for signum in (signal.SIGTERM, signal.SIGINT)[:told]:
            worker.handle_sig(signum)
        await asyncio.sleep(0.2)
        proxy.passes.set()
        async with asyncio.timeout(5):
            await working
    assert await is_back(kit, handle.id)
    limit = f"{keys.HOLDERS}*work*"
    assert await kit.client.redis.keys(limit) == []


async def test_claim_that_is_heard_when_the_worker_has_left_is_given_back(kit: Kit) -> None:
    """Its answer came between the decision to leave and the end of the wait."""

    @kit.registry.job()
    async def work() -> None: ...

    handle = await kit.enqueue(work)
    worker = Worker(kit.client, kit.registry, kit.config(lease=60))
    ask = Ask(1, 1)
    _, claim = await kit.client.queue_store.exchange([], worker.claiming.request(ask))
    assert claim is not None
    now = time.monotonic()
    on(worker.state, Waited(Wait(ask), None, worker.claiming.brought(claim, now), now))
    assert [each.claimed.id for each in worker.unsettled()] == [handle.id]
    await worker._handing_back.let_go(kit.client.queue_store)
    assert await is_back(kit, handle.id)
    assert worker.unsettled() == []
    assert worker.state.taken == 0


async def test_what_is_owed_at_the_end_of_a_process(kit: Kit, redis_url: str) -> None:
    """Outcomes that Redis has not confirmed, and the jobs that run; not what was confirmed."""
    inside, go = asyncio.Event(), asyncio.Event()

    @kit.registry.job()
    async def ends() -> str:
        await go.wait()
        return "done"

    @kit.registry.job()
    async def long() -> None:
        inside.set()
        await asyncio.sleep(60)

    async with (
        CuttingProxy(urlsplit(redis_url).port or 0).serve() as proxy,
        Client.open(f"redis://127.0.0.1:{proxy.port}") as behind,
    ):
        worker = Worker(behind, kit.registry, kit.config(lease=60, grace=0.0))
        working = asyncio.create_task(worker.async_run())
        before = await kit.enqueue(ends)
        ended, runs = await kit.enqueue(ends), await kit.enqueue(long)
        go.set()
        await kit.ended(before.id)
        await kit.ended(ended.id)
        go.clear()
        late = await kit.enqueue(ends)
        await inside.wait()

        async def begun() -> bool:
            return late.id in worker.runs

        await eventually(begun)
        proxy.passes.clear()
        go.set()

        async def owed() -> dict[str, str]:
            found = {each.claimed.id: type(each.outcome).__name__ for each in worker.state.unsettled()}
            return found if late.id in found else {}

        await eventually(owed)
        owing = {each.claimed.id: isinstance(each.outcome, Ended) for each in worker.unsettled()}
        proxy.passes.set()
        worker.handle_sig(signal.SIGTERM)
        await working
    assert owing == {late.id: True, runs.id: False}
    assert (await kit.client.find(late.id)).result == "done"
    assert await is_back(kit, runs.id)


async def test_worker_that_stops_fires_no_schedules(kit: Kit) -> None:
    inside = asyncio.Event()

    @kit.registry.schedule(every(1), name=kit.queue, options={"queue": kit.queue})
    @kit.registry.job(name=f"tick-{kit.queue}")
    async def tick() -> None: ...

    @kit.registry.job(name=f"hold-{kit.queue}")
    async def hold() -> None:
        inside.set()
        await asyncio.sleep(2.5)

    async def queued_ticks() -> int:
        return sum(event.name == "queued" and kit.queue in event.job_id for event in await latest(kit.client.redis))

    async with kit.worker() as worker:
        await kit.enqueue(hold)
        await inside.wait()
        await eventually(queued_ticks)
        worker.handle_sig(signal.SIGTERM)
        before = await queued_ticks()
        await asyncio.sleep(2.0)
        assert await queued_ticks() == before
    await kit.client.schedules.drop(kit.queue)


async def test_worker_that_is_told_to_stop_while_it_begins_fires_no_schedules(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    begins, goes_on = asyncio.Event(), asyncio.Event()

    @kit.registry.schedule(every(1), name=kit.queue, options={"queue": kit.queue})
    @kit.registry.job(name=f"tick-{kit.queue}")
    async def tick() -> None: ...

    async def slow() -> None:
        begins.set()
        await goes_on.wait()

    worker = Worker(kit.client, kit.registry, kit.config(grace=10.0, schedules=True))
    monkeypatch.setattr(worker._heartbeat, "look_at_server", slow)
    working = asyncio.create_task(worker.async_run())
    await asyncio.wait_for(begins.wait(), 20)
    worker.handle_sig(signal.SIGTERM)
    await asyncio.sleep(2.2)
    queued = [await kit.client.redis.zcard(keys.queue_key(kit.queue, priority)) for priority in Priority]
    goes_on.set()
    await asyncio.wait_for(working, 20)
    await kit.client.schedules.drop(kit.queue)
    assert sum(queued) == 0


async def test_outcome_that_is_on_its_way_when_time_is_up_is_stored(kit: Kit, redis_url: str) -> None:
    """And not handed back: the job has run. Its answer hangs when the worker has to leave; Redis then answers again."""
    proxy = CuttingProxy(urlsplit(redis_url).port or 0)
    runs = 0

    @kit.registry.job()
    async def quick() -> int:
        nonlocal runs
        runs += 1
        proxy.passes.clear()
        return runs

    async with proxy.serve(), Client.open(f"redis://127.0.0.1:{proxy.port}/0") as cut:
        worker = Worker(cut, kit.registry, kit.config(lease=60, grace=0.1))
        working = asyncio.create_task(worker.async_run())
        handle = await kit.enqueue(quick)

        async def has_run() -> bool:
            return runs > 0

        await eventually(has_run)
        worker.handle_sig(signal.SIGTERM)
        assert [type(each.outcome) for each in worker.unsettled()] == [Ended]
        await asyncio.sleep(1)
        assert [type(each.outcome) for each in worker.unsettled()] == [Ended]
        proxy.passes.set()
        await working
    assert (await handle.job()).state is State.SUCCEEDED
    assert runs == 1


class SlowProxy(CuttingProxy):
    """Lets two megabytes a second pass."""

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        way: int,
        limit: int | None,
        *,
        count: bool,
    ) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(len(data) / 2_000_000)


async def test_large_result_does_not_keep_other_jobs_from_being_handed_back(kit: Kit, redis_url: str) -> None:
    go, inside = threading.Event(), threading.Event()

    @kit.registry.job()
    async def large() -> str:
        return "x" * 12_000_000

    @kit.registry.job()
    def deaf() -> None:
        inside.set()
        go.wait(30)

    handle = await kit.enqueue(deaf)
    async with (
        SlowProxy(urlsplit(redis_url).port or 0).serve() as proxy,
        Client.open(f"redis://127.0.0.1:{proxy.port}") as behind,
    ):
        worker = Worker(behind, kit.registry, kit.config(lease=60))
        working = asyncio.create_task(worker.async_run())
        await asyncio.to_thread(inside.wait, 10)
        await kit.enqueue(large)

        async def under_way() -> bool:
            return any(each.size > 1_000_000 for each in worker.state.unsettled())

        await eventually(under_way)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        assert await is_back(kit, handle.id)
    go.set()


async def test_process_that_ends_itself_hands_back_before_it_stores_a_large_result(kit: Kit, redis_url: str) -> None:
    @kit.registry.job()
    async def work() -> None: ...

    handles = [await kit.enqueue(work) for _ in range(2)]
    _, claim = await kit.client.queue_store.exchange([], ClaimRequest("w", 1, [kit.queue_key], 2, 60_000))
    assert claim is not None
    ended, runs = claim.jobs
    owed = [
        Ack(ended, Ended(State.SUCCEEDED, b"x" * 12_000_000, 60_000)),
        Ack(runs, Requeue(0, released=True)),
    ]
    async with SlowProxy(urlsplit(redis_url).port or 0).serve() as proxy:
        keeper = LeaseKeeper(thread_client(f"redis://127.0.0.1:{proxy.port}", timeout=0.2))
        with pytest.raises(BrokerUnavailable):
            await asyncio.to_thread(keeper.settle, owed)
        keeper.close()
    assert await is_back(kit, runs.id)
    assert not await is_back(kit, ended.id)
    assert {runs.id, ended.id} == {handle.id for handle in handles}


async def test_worker_that_redis_refuses_ends_as_any_other(kit: Kit, redis_url: str) -> None:
    """Its rights are taken from it while a job runs that does not end."""
    go, inside = threading.Event(), threading.Event()

    @kit.registry.job()
    def deaf() -> None:
        inside.set()
        go.wait(30)

    await kit.client.redis.execute_command("ACL", "SETUSER", kit.queue, "on", ">secret", "+@all", "~*", "&*")
    async with Client.open(redis_url.replace("://", f"://{kit.queue}:secret@")) as limited:
        await kit.enqueue(deaf)
        working = asyncio.create_task(Worker(limited, kit.registry, kit.config(lease=60)).async_run())
        await asyncio.to_thread(inside.wait, 10)
        await kit.client.redis.execute_command("ACL", "SETUSER", kit.queue, "-evalsha", "-eval")
        with logged("embarq.worker") as lines:
            working.cancel()
            with pytest.raises(asyncio.CancelledError):
                await working
    assert [line for line in lines if line["event"].startswith("jobs could not be handed back")]
    await kit.client.redis.execute_command("ACL", "DELUSER", kit.queue)
    go.set()


def test_what_is_urgent_goes_first() -> None:
    def ack(size: int | None) -> Ack:
        claimed = Claimed("a", "q", "t", b"", 1, 0, aborted=False, claimed_ms=0)
        return Ack(
            claimed, Requeue(0, released=True) if size is None else Ended(State.FAILED, b"x" * size, 1, value=b"")
        )

    owed = [ack(size) for size in (3_000_000, 400_000, None, 2_000_000, 600_000, 10, None, 500_000)]
    calls = [[each.size for each in call] for call in urgent_first(owed)]
    assert calls == [[0, 0], [10, 400_000, 500_000], [600_000], [2_000_000], [3_000_000]]
    assert list(urgent_first([])) == []
