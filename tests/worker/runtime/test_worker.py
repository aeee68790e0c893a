import asyncio
import contextvars
import decimal
import logging
import pickle
import signal
import threading
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.support import Kit, eventually, logged
from worker import Context, Retry, RetryPolicy, State, Worker, WorkerConfig, current_context
from worker.broker.events import latest
from worker.broker.exchange import ClaimRequest
from worker.core import keys
from worker.core.errors import DefinitionError, JobFailed, JobNotFound
from worker.runtime.events import Told


async def test_job_runs_and_its_result_is_found(kit: Kit) -> None:
    @kit.registry.job()
    async def add(a: int, b: int = 1) -> int:
        return a + b

    handle = await kit.enqueue(add, {"a": 2})
    assert (await handle.job()).state is State.QUEUED
    async with kit.worker() as worker:
        assert await handle.result(timeout=20) == 3
    job = await handle.job()
    assert (job.name, job.state, job.queue, job.args) == ("add", State.SUCCEEDED, kit.queue, {"a": 2})
    assert job.tries == 1
    assert job.worker == worker.id
    assert job.started_at is not None
    assert job.finished_at is not None
    assert job.enqueued_at <= job.started_at <= job.finished_at


async def test_failure_keeps_type_message_and_traceback(kit: Kit) -> None:
    @kit.registry.job()
    async def fail() -> None:
        raise ValueError("no such thing")

    handle = await kit.enqueue(fail)
    await kit.drain()
    job = await handle.job()
    assert job.state is State.FAILED
    assert job.error is not None
    assert (job.error.type, job.error.message) == ("ValueError", "no such thing")
    assert 'raise ValueError("no such thing")' in (job.error.traceback or "")
    with pytest.raises(JobFailed, match="ValueError: no such thing"):
        await handle.result()


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()])
@pytest.mark.arq_defect(5)
async def test_job_cannot_end_its_worker(kit: Kit, error: BaseException) -> None:
    @kit.registry.job()
    async def leave() -> None:
        raise error

    @kit.registry.job()
    async def after() -> str:
        return "still here"

    first = await kit.enqueue(leave)
    async with kit.worker(concurrency=1):
        assert (await kit.ended(first.id)).state is State.FAILED
        second = await kit.enqueue(after)
        assert await second.result(timeout=20) == "still here"


async def test_same_id_makes_one_job(kit: Kit) -> None:
    runs = []

    @kit.registry.job()
    async def once(value: int) -> int:
        runs.append(value)
        return value

    job_id = f"{kit.queue}-once"
    handles = await asyncio.gather(*(kit.enqueue(once, {"value": i}, id=job_id) for i in range(20)))
    assert sum(handle.created for handle in handles) == 1
    await kit.drain()
    assert len(runs) == 1
    again = await kit.enqueue(once, {"value": 99}, id=job_id)
    assert not again.created
    assert await again.result(timeout=15) == runs[0]


async def test_progress_is_seen_while_running_and_afterwards(kit: Kit) -> None:
    go_on = asyncio.Event()

    @kit.registry.job()
    async def climb(ctx: Context) -> None:
        ctx.progress(1, 4, "one")
        await go_on.wait()
        ctx.progress(4, 4, "done")

    handle = await kit.enqueue(climb)
    async with kit.worker():
        progress = await eventually(lambda: _progress(kit, handle.id))
        assert (progress.current, progress.total, progress.percent, progress.message) == (1, 4, 25.0, "one")
        go_on.set()
        job = await kit.ended(handle.id)
    assert job.progress is not None
    assert (job.progress.percent, job.progress.message) == (100.0, "done")


async def _progress(kit: Kit, job_id: str):  # type: ignore[no-untyped-def]  # Progress or None
    return (await kit.client.find(job_id)).progress


async def test_sync_job_runs_in_a_thread_with_its_context(kit: Kit) -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="none")

    @kit.registry.job()
    def where(ctx: Context) -> list[str]:
        tenant.set("changed here only")
        ctx.progress(1, 2)
        current = current_context()
        return [threading.current_thread().name, current.job_id if current else ""]

    handle = await kit.enqueue(where)
    await kit.drain()
    name, seen_id = await handle.result(timeout=15)
    assert name.startswith("job")
    assert seen_id == handle.id
    assert tenant.get() == "none"
    assert (await handle.job()).progress is not None


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("concurrency", [1, 2, 10])
async def test_no_job_sees_what_another_one_has_set(kit: Kit, concurrency: int, hooked: bool) -> None:
    """Jobs, their ends and the timers that they start bring about claims, which begin other jobs."""
    setter: contextvars.ContextVar[str] = contextvars.ContextVar("setter", default="nobody")
    seen: list[str] = []

    @kit.registry.job()
    async def mark(ctx: Context) -> None:
        seen.append(setter.get())
        setter.set(ctx.job_id)
        with decimal.localcontext() as local:
            local.prec = 3
        await asyncio.sleep(0)

    if hooked:

        @kit.registry.on_job_start
        async def begun(_ctx: Context) -> None:
            seen.append(setter.get())
            setter.set("hook")

    waiting = [await kit.enqueue(mark) for _ in range(40)]
    async with kit.worker(concurrency=concurrency):
        for handle in waiting:
            await handle.result(timeout=15)
        for _ in range(5):  # one by one, while a claim stands
            await (await kit.enqueue(mark)).result(timeout=15)
    assert set(seen) == ({"nobody", "hook"} if hooked else {"nobody"})
    assert seen.count("hook") == (45 if hooked else 0)


async def test_retry_waits_and_runs_again(kit: Kit) -> None:
    @kit.registry.job()
    async def shaky(ctx: Context) -> int:
        if ctx.try_number < 3:
            raise Retry(delay=0.2)
        return ctx.try_number

    handle = await kit.enqueue(shaky)
    started = time.monotonic()
    async with kit.worker():
        await kit.reaches(handle.id, State.RETRYING)
        assert await handle.result(timeout=20) == 3
    assert time.monotonic() - started >= 0.4


async def test_retry_ends_at_max_tries(kit: Kit) -> None:
    @kit.registry.job(max_tries=2)
    async def never() -> None:
        raise Retry

    handle, longer = await kit.enqueue(never), await kit.enqueue(never, max_tries=4)
    await kit.drain()
    assert ((await handle.job()).state, (await handle.job()).tries) == (State.FAILED, 2)
    assert (await longer.job()).tries == 4


async def test_timeout_stops_the_job(kit: Kit) -> None:
    @kit.registry.job(timeout=60)
    async def long() -> None:
        await asyncio.sleep(60)

    @kit.registry.job()
    async def own_timeout() -> None:
        raise TimeoutError("the provider's, not ours")

    slow, other = await kit.enqueue(long, timeout=0.1), await kit.enqueue(own_timeout)
    await kit.drain()
    error, own = (await slow.job()).error, (await other.job()).error
    assert error is not None
    assert (error.type, error.message) == ("TimeLimitExceeded", "not done after its limit of 0.1 s")
    assert own is not None
    assert own.message == "the provider's, not ours"


async def test_deferred_job_waits_for_its_time(kit: Kit) -> None:
    @kit.registry.job()
    async def when() -> float:
        return time.time()

    due = datetime.now(UTC) + timedelta(seconds=0.6)
    by_delay, by_time = await kit.enqueue(when, delay=0.6), await kit.enqueue(when, run_at=due)
    job = await by_delay.job()
    assert job.state is State.DEFERRED
    assert job.scheduled_for is not None
    async with kit.worker():
        for handle in (by_delay, by_time):
            late = await handle.result(timeout=20) - due.timestamp()
            assert -0.1 < late < 1.0  # how late exactly is measured in the benchmarks


async def test_job_not_started_in_time_expires(kit: Kit) -> None:
    @kit.registry.job()
    async def late() -> None: ...

    handle = await kit.enqueue(late, expires_in=0.05)
    await asyncio.sleep(0.1)
    await kit.drain()
    job = await handle.job()
    assert job.state is State.EXPIRED
    assert job.error is not None
    assert "0.05 s" in job.error.message


async def test_job_expires_instead_of_another_try_that_would_come_too_late(kit: Kit) -> None:
    @kit.registry.job(retry=RetryPolicy(on=(LookupError,), delay=60, jitter=0))
    async def unlucky() -> None:
        raise KeyError("nothing")

    handle = await kit.enqueue(unlucky, expires_in=30)
    in_time = await kit.enqueue(unlucky, expires_in=90)
    by_arq = await kit.client.arq.enqueue_job("unlucky", _expires=30, _queue_name=kit.queue_key)
    assert by_arq is not None
    async with kit.worker():
        await kit.reaches(in_time.id, State.RETRYING)
        for job_id in (handle.id, by_arq.job_id):
            await kit.ended(job_id)
    for job_id in (handle.id, by_arq.job_id):
        job = await kit.client.find(job_id)
        assert (job.state, job.tries, [each.outcome for each in job.attempts]) == (State.EXPIRED, 1, ["expired"])
        assert job.error is not None
        assert job.error.type == "Expired"
        assert "30.0 s after its enqueue; the last one ended with KeyError: 'nothing'" in job.error.message
        assert 'raise KeyError("nothing")' in (job.error.traceback or "")


async def test_job_that_comes_to_its_next_try_too_late_expires(kit: Kit) -> None:
    """As where no worker is there at its time; so it is after a lost lease."""
    runs = 0

    @kit.registry.job()
    async def unlucky() -> None:
        nonlocal runs
        runs += 1
        raise Retry(delay=4)

    retried = await kit.enqueue(unlucky, expires_in=6)
    async with kit.worker():
        await kit.reaches(retried.id, State.RETRYING)
    lost = await kit.enqueue(unlucky, expires_in=6)
    await kit.client.queue_store.exchange([], ClaimRequest("dead", 1, [kit.queue_key], 1, 100))
    await kit.client.queue_store.heard("dead", 1)
    enqueued = (await lost.job()).enqueued_at
    await asyncio.sleep(max(0, 6.1 - (datetime.now(UTC) - enqueued).total_seconds()))
    await kit.drain()
    for each in (retried, lost):
        job = await each.job()
        assert (job.state, job.tries) == (State.EXPIRED, 2)
        assert job.error is not None
        assert job.error.message == "not started again within 6.0 s of its enqueue"
    assert runs == 1


async def test_handed_back_job_that_has_expired_meanwhile_does_not_start_again(kit: Kit) -> None:
    @kit.registry.job()
    async def long() -> None:
        await asyncio.sleep(60)

    handle = await kit.enqueue(long, expires_in=3)
    async with kit.worker(grace=0):
        await kit.reaches(handle.id, State.RUNNING)
    enqueued = (await handle.job()).enqueued_at
    await asyncio.sleep(max(0, 3.1 - (datetime.now(UTC) - enqueued).total_seconds()))
    await kit.drain()
    assert (await handle.job()).state is State.EXPIRED


async def test_high_priority_overtakes(kit: Kit) -> None:
    order = []

    @kit.registry.job()
    async def note(name: str) -> None:
        order.append(name)

    for name, priority in (("low", "low"), ("normal", "normal"), ("high", "high")):
        await kit.enqueue(note, {"name": name}, priority=priority)
    await kit.drain(concurrency=1)
    assert order == ["high", "normal", "low"]


async def test_low_priority_moves_under_constant_urgent_load(kit: Kit) -> None:
    order = []

    @kit.registry.job()
    async def urgent(left: int) -> None:
        order.append("high")
        if left:
            await kit.enqueue(urgent, {"left": left - 1}, priority="high")

    @kit.registry.job()
    async def patient() -> None:
        order.append("low")

    await kit.enqueue(patient, priority="low")
    await kit.enqueue(urgent, {"left": 40}, priority="high")
    await kit.drain(concurrency=1)
    assert order.index("low") < 20


@pytest.mark.parametrize(("ttl", "expected_ms"), [(None, -1), (100, 100_000)])
async def test_result_is_kept_as_long_as_asked(kit: Kit, ttl: float | None, expected_ms: int) -> None:
    @kit.registry.job(result_ttl=5)
    async def work() -> int:
        return 1

    handle = await kit.enqueue(work, result_ttl=ttl)
    declared = await kit.enqueue(work)
    await kit.drain()
    left = await kit.client.redis.pttl(keys.RESULT + handle.id)
    assert expected_ms - 2000 < left <= expected_ms
    assert 57_000 < await kit.client.redis.pttl(keys.RESULT + declared.id) <= 60_000


async def test_result_that_is_not_kept_leaves_a_trace_without_it(kit: Kit) -> None:
    @kit.registry.job()
    async def work(text: str) -> str:
        return text

    handle = await kit.enqueue(work, {"text": "private"}, id=f"free-{kit.queue}", result_ttl=0)
    await kit.drain()
    assert await kit.client.redis.exists(keys.RESULT + handle.id) == 0
    assert b"private" not in await kit.client.redis.get(keys.TRACE + handle.id)
    assert 57_000 < await kit.client.redis.pttl(keys.TRACE + handle.id) <= keys.TOMBSTONE_MS
    assert (await handle.job()).state is State.SUCCEEDED
    again = await kit.enqueue(work, {"text": "other"}, id=handle.id)
    assert again.created
    await kit.drain()
    assert await again.result(15) == "other"


async def test_ended_job_leaves_only_its_result(kit: Kit) -> None:
    @kit.registry.job()
    async def work(ctx: Context) -> None:
        ctx.progress(1)
        if ctx.try_number == 1:
            raise Retry(delay=0)

    handle = await kit.enqueue(work)
    await kit.drain()
    left = {key.decode() for key in await kit.client.redis.keys(f"*{handle.id}*")}
    assert left == {keys.RESULT + handle.id, keys.HISTORY + handle.id}
    for key in left:
        assert await kit.client.redis.pttl(key) > 0
    assert await kit.client.redis.zcard(kit.queue_key) == 0


@pytest.mark.arq_defect(10)
async def test_unserializable_result_is_success_with_a_notice(kit: Kit) -> None:

    @kit.registry.job()
    async def odd() -> object:
        return object()

    handle = await kit.enqueue(odd)
    await kit.drain()
    job = await handle.job()
    assert (job.state, job.result) == (State.SUCCEEDED, None)
    assert job.error is not None
    assert job.error.type == "NotSerializable"
    assert "object" in job.error.message


@pytest.mark.arq_defect(5)
async def test_bad_payloads_fail_clearly_and_nothing_else_is_lost(kit: Kit) -> None:
    @kit.registry.job()
    async def fine(value: int) -> int:
        return value

    bad = {
        "not-json": (b"{", "MalformedPayload", "must be the payload"),
        "pickled": (pickle.dumps({"f": "fine"}), "MalformedPayload", "pickle"),
        "bad-type": (b'{"t": "x", "f": "fine", "a": [], "k": {}, "et": 1}', "MalformedPayload", "$.t"),
        "bad-args": (
            b'{"t": null, "f": "fine", "a": [], "k": {"value": "x"}, "et": 1}',
            "InvalidArguments",
            "value",
        ),
        "gone": (None, "MalformedPayload", "gone"),
    }
    for name, (data, _, _) in bad.items():
        if data is not None:
            await kit.client.redis.set(f"{keys.JOB}{kit.queue}-{name}", data)
        await kit.client.redis.zadd(kit.queue_key, {f"{kit.queue}-{name}": 1})
    await kit.client.redis.set(f"{keys.TRIES}{kit.queue}-not-json", "many")
    good = [await kit.enqueue(fine, {"value": i}) for i in range(5)]
    async with kit.worker():
        assert [await handle.result(timeout=20) for handle in good] == list(range(5))
        for name, (_, kind, message) in bad.items():
            job = await kit.ended(f"{kit.queue}-{name}")
            assert job.state is State.FAILED
            assert job.error is not None
            assert job.error.type == kind
            assert message in job.error.message
    assert await kit.client.redis.zcard(kit.queue_key) == 0


@pytest.mark.arq_defect(10)
async def test_unknown_job_waits_for_a_worker_that_knows_it(kit: Kit) -> None:
    arq_job = await kit.client.arq.enqueue_job("newer", 1, _queue_name=kit.queue_key)
    assert arq_job is not None

    @kit.registry.job()
    async def older() -> None: ...

    async with kit.worker():
        job = await kit.reaches(arq_job.job_id, State.DEFERRED)
        assert job.tries == 0

    @kit.registry.job()
    async def newer(value: int) -> int:
        return value

    async with kit.worker():
        assert (await kit.ended(arq_job.job_id)).result == 1


async def test_unknown_job_fails_after_the_deadline(kit: Kit) -> None:
    @kit.registry.job()
    async def known() -> None: ...

    arq_job = await kit.client.arq.enqueue_job("nobody_knows", _queue_name=kit.queue_key)
    assert arq_job is not None
    await kit.drain(unknown_job_deadline=0)
    job = await kit.client.find(arq_job.job_id)
    assert job.error is not None
    assert (job.state, job.error.type) == (State.FAILED, "UnknownJob")
    assert "nobody_knows" in job.error.message


async def test_job_that_loses_its_worker_each_time_is_poisoned(kit: Kit) -> None:
    @kit.registry.job()
    async def kills() -> None: ...

    handle = await kit.enqueue(kills)
    for number in range(3):
        for suspects in (False, True):  # after two losses it is parked by the one, and taken by the other
            request = ClaimRequest("killed", number, [kit.queue_key], 1, lease_ms=20, suspects=suspects)
            await kit.client.queue_store.exchange([], request)
        await kit.client.queue_store.heard("killed", number)
        await asyncio.sleep(0.03)
    await kit.drain(leases_lost_limit=3)
    job = await kit.client.find(handle.id)
    assert job.error is not None
    assert (job.state, job.error.type) == (State.FAILED, "PoisonedJob")
    assert "lost 3 times in a row" in job.error.message
    assert [t.outcome for t in job.attempts] == ["lost", "lost", "lost", "failed"]


async def test_expired_result_is_not_found(kit: Kit) -> None:
    with pytest.raises(JobNotFound, match="never-was"):
        await kit.client.find("never-was")


async def test_stop_hands_back_without_using_a_try(kit: Kit) -> None:
    cleaned: list[bool] = []
    inside = asyncio.Event()

    @kit.registry.job()
    async def long(ctx: Context) -> int:
        if ctx.try_number == 1 and not cleaned:
            inside.set()
            try:
                await asyncio.sleep(60)
            finally:
                cleaned.append(ctx.stopping.is_set())
        return ctx.try_number

    handle = await kit.enqueue(long)
    async with kit.worker(grace=0.1):
        await inside.wait()
    assert cleaned == [True]
    assert (await handle.job()).state is State.QUEUED
    await kit.drain()
    assert await handle.result(timeout=15) == 1


async def test_stop_lets_running_jobs_end(kit: Kit) -> None:
    inside = asyncio.Event()

    @kit.registry.job()
    async def short() -> str:
        inside.set()
        await asyncio.sleep(0.3)
        return "done"

    handle = await kit.enqueue(short)
    async with kit.worker(grace=10):
        await inside.wait()
    assert (await handle.job()).result == "done"


async def test_resources_are_opened_once_and_closed(kit: Kit) -> None:
    life = []

    class Door:
        pass

    async def door() -> AsyncIterator[Door]:
        life.append("open")
        yield Door()
        life.append("closed")

    door.__annotations__["return"] = AsyncIterator[Door]
    kit.registry.resource(door)

    @kit.registry.job()
    async def walk(ctx: Context) -> None:
        assert isinstance(ctx.resource(Door), Door)

    @kit.registry.job()
    async def run_into(ctx: Context) -> None:
        ctx.resource(int)

    first, second, third = await kit.enqueue(walk), await kit.enqueue(walk), await kit.enqueue(run_into)
    await kit.drain()
    assert [(await h.job()).state for h in (first, second)] == [State.SUCCEEDED] * 2
    error = (await third.job()).error
    assert error is not None
    assert "nothing provides int" in error.message
    assert life == ["open", "closed"]


async def test_many_jobs_each_run_once_over_three_workers(kit: Kit) -> None:
    ran: list[int] = []

    @kit.registry.job()
    async def work(n: int) -> int:
        ran.append(n)
        await asyncio.sleep(0)
        return n

    handles = await asyncio.gather(*(kit.enqueue(work, {"n": n}) for n in range(600)))
    async with kit.worker(concurrency=7), kit.worker(concurrency=50), kit.worker():
        assert [await handle.result(timeout=20) for handle in handles] == list(range(600))
    assert sorted(ran) == list(range(600))


async def test_log_lines_inside_a_job_carry_its_name_id_and_try(kit: Kit) -> None:
    @kit.registry.job()
    async def talk() -> None:
        logging.getLogger("plain").warning("hello from inside")

    with logged("plain") as lines:
        handle = await kit.enqueue(talk)
        await kit.drain()
    assert lines == [{"event": "hello from inside", "job": "talk", "job_id": handle.id, "try": 1}]


async def test_events_of_a_life(kit: Kit) -> None:
    @kit.registry.job()
    async def twice(ctx: Context) -> None:
        if ctx.try_number == 1:
            raise Retry

    handle = await kit.enqueue(twice)
    await kit.drain()
    own = [event.name for event in await latest(kit.client.redis) if event.job_id == handle.id]
    assert own == ["queued", "started", "retry", "started", "succeeded"]


async def test_worker_record_is_there_while_it_lives(kit: Kit) -> None:
    @kit.registry.job()
    async def work() -> None: ...

    async with kit.worker() as worker:
        record = await eventually(lambda: _record(kit, worker.id))
        assert record.queues == [kit.queue]
        assert record.jobs == ["work"]
    assert worker.id not in [record.id for record in await kit.client.workers()]


async def test_worker_that_is_stopped_at_any_moment_ends(kit: Kit) -> None:
    @kit.registry.job()
    async def work() -> None: ...

    for pause in [0.0005 * step for step in range(60)]:
        async with asyncio.timeout(5), kit.worker():
            await asyncio.sleep(pause)


async def _record(kit: Kit, worker: str):  # type: ignore[no-untyped-def]  # WorkerRecord or None
    return next((record for record in await kit.client.workers() if record.id == worker), None)


async def test_worker_of_all_queues_picks_up_a_new_one(kit: Kit) -> None:
    @kit.registry.job(name=f"only-{kit.queue}")
    async def work() -> int:
        return 1

    worker = Worker(kit.client, kit.registry, WorkerConfig(queues=("*",)))
    running = asyncio.create_task(worker.async_run())
    await eventually(lambda: _record(kit, worker.id))
    handle = await kit.enqueue(work)
    assert await handle.result(timeout=20) == 1
    worker.handle_sig(signal.SIGTERM)
    await running


async def test_error_that_is_no_text_still_fails_the_job(kit: Kit) -> None:
    @kit.registry.job()
    async def odd() -> None:
        raise ValueError("half \ud800 a pair")

    handle = await kit.enqueue(odd)
    await kit.drain()
    job = await handle.job()
    assert job.error is not None
    assert (job.state, job.error.message) == (State.FAILED, "half \\ud800 a pair")


@pytest.mark.parametrize("delay", [-1.0, float("inf"), float("nan"), 1e12])
def test_retry_at_no_time_is_refused(delay: float) -> None:
    with pytest.raises(ValueError, match="delay must be"):
        Retry(delay)


async def test_job_that_raises_what_is_no_exception_fails(kit: Kit) -> None:
    class Panic(BaseException):
        """As extensions written in other languages raise."""

    @kit.registry.job()
    async def panics() -> None:
        raise Panic("out")

    @kit.registry.job()
    def panics_in_a_thread() -> None:
        raise Panic("out")

    handles = [await kit.enqueue(panics), await kit.enqueue(panics_in_a_thread)]
    await kit.drain()
    for handle in handles:
        job = await handle.job()
        assert job.error is not None
        assert (job.state, job.error.type) == (State.FAILED, "Panic")


async def test_worker_without_a_job_says_so(kit: Kit) -> None:
    with pytest.raises(DefinitionError, match="no job is registered, and a worker needs one"):
        Worker(kit.client, kit.registry, kit.config())


async def test_worker_is_recycled_once_and_says_why(kit: Kit) -> None:
    @kit.registry.job()
    async def work() -> None: ...

    handles = [await kit.enqueue(work) for _ in range(3)]
    with logged("embarq.worker") as lines:
        worker = Worker(kit.client, kit.registry, kit.config(recycle_jobs=3))
        await asyncio.wait_for(worker.async_run(), 20)
    assert [(await handle.job()).state for handle in handles] == [State.SUCCEEDED] * 3
    (line,) = [line for line in lines if line["event"] == "worker is recycled"]
    assert (line["jobs"], line["megabytes"]) == (3, 0)


async def test_burst_that_takes_no_more_is_not_recycled(kit: Kit) -> None:
    """Its jobs would get no longer than the grace period, although nobody told it to stop."""
    began, go = asyncio.Event(), asyncio.Event()

    @kit.registry.job()
    async def work() -> None:
        await go.wait()

    @kit.registry.job()
    async def longer_than_grace() -> None:
        began.set()
        await asyncio.sleep(2.5)

    _, handle = await kit.enqueue(work), await kit.enqueue(longer_than_grace)
    worker = Worker(kit.client, kit.registry, kit.config(burst=True, recycle_jobs=1, grace=0.1))
    working = asyncio.create_task(worker.async_run())
    await asyncio.wait_for(began.wait(), 20)
    worker.runner.take_no_more(Told())
    go.set()
    await asyncio.wait_for(working, 20)
    assert (await handle.job()).state is State.SUCCEEDED
