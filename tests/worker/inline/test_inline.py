"""One job after the other in the calling process: what is the same as with a worker, and what is bounded."""

import asyncio
import contextlib
import contextvars
import gc
import logging
import os
import sys
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import pytest
from pydantic import BaseModel

from tests.support import eventually
from tests.worker import process_jobs
from worker import (
    Client,
    Context,
    InlineClient,
    JobEnd,
    Permanent,
    Registry,
    ResourceUnavailable,
    Retry,
    RetryPolicy,
    State,
    chain,
    current_context,
    inline,
)
from worker.core.config import WorkerConfig
from worker.core.errors import EmbarqError, InvalidArguments, JobEnded, JobFailed, JobNotFound, NotInline
from worker.definition.resources import injected
from worker.inline import InlineDeadlock, InlineTooDeep, frames, memory
from worker.inline import steps as step_records
from worker.testing import replaced


@pytest.fixture
async def client(registry: Registry) -> AsyncIterator[InlineClient]:
    async with inline(registry) as opened:
        yield opened


async def test_job_has_ended_when_enqueue_returns(registry: Registry, client: InlineClient) -> None:
    @registry.job()
    async def greet(ctx: Context, name: str) -> str:
        ctx.progress(1, 2, "half")
        return f"hello {name}"

    handle = await greet.options(tags=("a",), queue="mail").enqueue("Ada")
    job = await handle.job()
    assert handle.created
    assert await handle.result() == "hello Ada"
    assert (job.state, job.queue, job.tags, job.tries) == (State.SUCCEEDED, "mail", ("a",), 1)
    assert job.progress is not None
    assert (job.progress.current, job.progress.total, job.progress.message) == (1, 2, "half")


async def test_failure_is_told_by_the_result_and_not_by_enqueue(registry: Registry, client: InlineClient) -> None:
    @registry.job()
    async def fail() -> None:
        raise ValueError("out of paper")

    handle = await fail.enqueue()
    job = await handle.job()
    assert job.state is State.FAILED
    assert job.error is not None
    assert (job.error.type, job.error.message) == ("ValueError", "out of paper")
    assert "out of paper" in (job.error.traceback or "")
    with pytest.raises(JobFailed, match="ValueError: out of paper"):
        await handle.result()


async def test_retries_are_obeyed_in_number_and_not_in_time(registry: Registry, client: InlineClient) -> None:
    tries: dict[str, list[int]] = {"asked": [], "policy": [], "permanent": []}

    @registry.job(max_tries=4)
    async def asked(ctx: Context) -> int:
        tries["asked"].append(ctx.try_number)
        raise Retry(delay=3600)

    @registry.job(max_tries=3, retry=RetryPolicy(on=(ConnectionError,), delay=600))
    async def policy(ctx: Context) -> str:
        tries["policy"].append(ctx.try_number)
        if ctx.try_number < 3:
            raise ConnectionError
        return "done"

    @registry.job(max_tries=3, retry=RetryPolicy(on=(Exception,)))
    async def permanent(ctx: Context) -> None:
        tries["permanent"].append(ctx.try_number)
        raise Permanent("never")

    began = time.monotonic()
    assert (await (await asked.enqueue()).job()).state is State.FAILED
    handle = await policy.enqueue()
    await permanent.enqueue()
    assert time.monotonic() - began < 60
    assert tries == {"asked": [1, 2, 3, 4], "policy": [1, 2, 3], "permanent": [1]}
    assert await handle.result() == "done"
    assert [each.outcome for each in (await handle.job()).attempts] == ["retry", "retry", "succeeded"]


async def test_arguments_and_results_go_through_json(registry: Registry, client: InlineClient) -> None:
    class Order(BaseModel):
        due: date
        ids: tuple[int, ...]

    seen: list[Order] = []

    @registry.job()
    async def place(order: Order) -> Order:
        seen.append(order)
        return order

    given = Order(due=date(2026, 1, 2), ids=(1, 2))
    handle = await place.enqueue(given)
    assert seen == [given]
    assert seen[0] is not given
    result: object = await handle.result()
    assert result == {"due": "2026-01-02", "ids": [1, 2]}

    @registry.job()
    async def give_lock() -> object:
        return threading.Lock()

    handle_of_lock = await give_lock.enqueue()
    job = await handle_of_lock.job()
    assert (job.state, job.result) == (State.SUCCEEDED, None)
    assert job.error is not None
    assert job.error.type == "NotSerializable"
    with pytest.raises(InvalidArguments):
        await place.enqueue({"due": "never", "ids": []})  # type: ignore[arg-type]


async def test_time_that_was_asked_for_is_not_waited_for(registry: Registry, client: InlineClient) -> None:
    @registry.job()
    async def note() -> str:
        return "now"

    later = datetime.now(UTC) + timedelta(days=30)
    assert await (await note.options(delay=86400).enqueue()).result() == "now"
    assert await (await note.options(run_at=later, expires_in=1).enqueue()).result() == "now"


async def test_same_id_is_one_job(registry: Registry, client: InlineClient) -> None:
    runs: list[int] = []

    @registry.job()
    async def charge(cents: int) -> int:
        runs.append(cents)
        return cents

    first = await charge.options(id="order-7").enqueue(100)
    second = await charge.options(id="order-7").enqueue(200)
    assert (first.created, second.created, second.id) == (True, False, "order-7")
    assert (runs, await second.result()) == ([100], 100)


async def test_unique_for_is_one_job_and_debounced_calls_are_run_each(registry: Registry, client: InlineClient) -> None:
    runs: list[int] = []

    @registry.job()
    async def index(page: int) -> int:
        runs.append(page)
        return page

    once = [await index.options(unique_for=60).enqueue(page) for page in (1, 1, 2)]
    assert [handle.created for handle in once] == [True, False, True]
    assert once[0].id == once[1].id
    for option in ("debounce", "throttle"):
        for page in (3, 3):
            assert (await index.options(**{option: 60}).enqueue(page)).created  # type: ignore[arg-type]
    assert runs == [1, 2, 3, 3, 3, 3]


async def test_many_calls_run_in_their_order(registry: Registry, client: InlineClient) -> None:
    runs: list[int] = []

    @registry.job()
    async def count(number: int) -> int:
        runs.append(number)
        return number

    handles = await client.enqueue_many(count.call(number) for number in range(2500))
    assert runs == list(range(2500))
    assert await handles[7].result() == 7


async def test_result_is_kept_as_long_as_it_was_asked_for(
    registry: Registry, client: InlineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    @registry.job()
    async def give(number: int) -> int:
        return number

    dropped = await give.options(result_ttl=0).enqueue(1)
    kept = await give.options(result_ttl=120).enqueue(2)
    forever = await give.options(result_ttl=None).enqueue(3)
    job = await dropped.job()
    assert (job.state, job.result) == (State.SUCCEEDED, None)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 61)
    with pytest.raises(JobNotFound):
        await dropped.job()
    assert (await kept.job()).result == 2
    monkeypatch.setattr(time, "monotonic", lambda: now + 86400)
    with pytest.raises(JobNotFound):
        await kept.job()
    assert (await forever.job()).result == 3


async def test_memory_of_ended_jobs_is_bounded(
    registry: Registry, client: InlineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    @registry.job()
    async def give(size: int) -> str:
        return "x" * size

    monkeypatch.setattr(memory, "MOST_ENDED", 3)
    handles = [await give.enqueue(1) for _ in range(5)]
    assert [job.id for job in await client.jobs()] == [handle.id for handle in handles[2:]]
    monkeypatch.setattr(memory, "MOST_BYTES", 10_000)
    large = await give.enqueue(50_000)
    assert [job.id for job in await client.jobs()] == [large.id]
    with pytest.raises(JobNotFound):
        await handles[0].job()


async def test_arguments_of_ended_jobs_are_not_held(registry: Registry) -> None:
    @registry.job(result_ttl=0)
    async def size(text: str) -> int:
        return len(text)

    async with inline(registry) as client:
        await size.enqueue("warm")
        tracemalloc.start()
        for _ in range(50):
            await size.enqueue("x" * 200_000)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(await client.jobs()) == 51
        assert held < 5_000_000


async def test_memory_lets_go_of_what_nobody_asks_for_again(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    @registry.job(result_ttl=30)
    async def nothing() -> None: ...

    async with inline(registry) as client:
        for _ in range(3):
            await nothing.enqueue()
        await chain(nothing.si(), nothing.si()).enqueue(id="flow")
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 7 * 86400)
        await chain(nothing.si(), nothing.si()).enqueue(id="other")
        kept = client._queue.memory
        assert (len(kept.ids()), list(kept._flows)) == (2, ["other"])


async def test_job_for_want_of_a_resource_is_tried_as_often_as_declared(registry: Registry) -> None:
    tries: list[int] = []

    @registry.job()
    async def fetch(ctx: Context) -> None:
        tries.append(ctx.try_number)
        if len(tries) > 10:
            raise Permanent("tried again and again")
        raise ResourceUnavailable("the archive is away")

    async with inline(registry, config=WorkerConfig(max_tries=2)):
        assert (await (await fetch.enqueue()).job()).state is State.FAILED
    assert tries == [1, 2]


async def test_job_has_its_context_and_its_log_lines_carry_it(
    registry: Registry, client: InlineClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    seen: list[dict[str, object]] = []

    @registry.job()
    async def look(ctx: Context) -> None:
        assert current_context() is ctx
        seen.append(ctx.log_fields())
        ctx.logger.info("inside", colour="red")

    handle = await look.enqueue()
    assert current_context() is None
    assert seen == [{"job": "look", "job_id": handle.id, "try": 1}]
    assert any(record.getMessage() == "inside" for record in caplog.records)


async def test_job_does_not_see_context_variables_of_its_caller(registry: Registry, client: InlineClient) -> None:
    tenant = contextvars.ContextVar("tenant", default="nobody")

    @registry.job()
    async def whose() -> str:
        return tenant.get()

    tenant.set("Ada")
    assert await (await whose.enqueue()).result() == "nobody"


async def test_plain_functions_run_in_a_thread_and_so_do_those_for_a_process(registry: Registry) -> None:
    async with inline(registry):

        @registry.job()
        def where() -> str:
            return threading.current_thread().name

        assert (await (await where.enqueue()).result()).startswith("job ")
    async with inline(process_jobs.registry):
        found = await (await process_jobs.whereabouts.enqueue("here")).result()
        assert found["pid"] == os.getpid()


async def test_limits_of_time_hold(registry: Registry) -> None:
    async with inline(registry, config=WorkerConfig(cancel_grace=0.2, unknown_job_deadline=0, outage_patience=0)):
        ended = asyncio.Event()

        @registry.job(soft_timeout=0.1, timeout=30)
        async def soft() -> str:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                return "partial"
            return "whole"

        @registry.job(timeout=0.1)
        async def hard() -> None:
            await asyncio.sleep(60)

        @registry.job(timeout=0.1)
        async def deaf() -> None:
            while not ended.is_set():
                try:
                    await ended.wait()
                except asyncio.CancelledError:
                    continue

        assert await (await soft.enqueue()).result() == "partial"
        for late in (hard, deaf):
            job = await (await late.enqueue()).job()
            assert job.state is State.FAILED
            assert job.error is not None
            assert job.error.type == "TimeLimitExceeded"
        ended.set()


async def test_time_in_a_job_that_another_enqueued_is_not_its_own(registry: Registry, client: InlineClient) -> None:
    @registry.job()
    async def slow() -> str:
        await asyncio.sleep(2.0)
        return "slow"

    @registry.job(soft_timeout=1.5, timeout=1.8)
    async def outer() -> str:
        handles = await asyncio.gather(slow.enqueue(), slow.enqueue())
        return await handles[0].result()

    @registry.job(timeout=0.5)
    async def then_slow_itself() -> None:
        await slow.enqueue()
        await asyncio.sleep(60)

    assert await (await outer.enqueue()).result() == "slow"
    job = await (await then_slow_itself.enqueue()).job()
    assert job.error is not None
    assert job.error.type == "TimeLimitExceeded"


async def test_running_job_is_cancelled_from_beside_it(registry: Registry, client: InlineClient) -> None:
    inside = asyncio.Event()

    @registry.job()
    async def wait() -> None:
        inside.set()
        await asyncio.sleep(60)

    waiting = asyncio.create_task(wait.options(id="long").enqueue())
    await inside.wait()
    assert (await client.find("long")).state is State.RUNNING
    assert (await wait.options(id="long").enqueue()).created is False
    waiter = asyncio.create_task(client.wait_for("long", 15))
    await asyncio.sleep(0)
    assert await client.cancel("long") is State.RUNNING
    assert (await waiter).state is State.CANCELLED
    handle = await waiting
    assert (await handle.job()).state is State.CANCELLED
    with pytest.raises(JobEnded):
        await handle.cancel()
    with pytest.raises(JobNotFound):
        await client.cancel("unknown")


async def test_caller_that_is_cancelled_takes_its_job_along(registry: Registry, client: InlineClient) -> None:
    inside = asyncio.Event()
    cleaned: list[str] = []

    @registry.job()
    async def inner() -> None:
        inside.set()
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.append("inner")

    @registry.job()
    async def outer() -> None:
        await inner.options(id="inner").enqueue()

    waiting = asyncio.create_task(outer.options(id="outer").enqueue())
    await inside.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert cleaned == ["inner"]
    assert {job.id: job.state for job in await client.jobs()} == dict.fromkeys(("inner", "outer"), State.CANCELLED)


async def test_job_runs_what_it_enqueues_at_once_and_may_wait_for_it(registry: Registry, client: InlineClient) -> None:
    @registry.job()
    async def part(number: int) -> int:
        return number * 2

    @registry.job()
    async def whole() -> int:
        handles = await asyncio.gather(*(part.enqueue(number) for number in range(5)))
        return sum([await handle.result() for handle in handles])

    assert await (await whole.enqueue()).result() == 20


async def test_job_that_enqueues_itself_for_ever_is_stopped(registry: Registry, client: InlineClient) -> None:
    @registry.job()
    async def again() -> None:
        await again.options(delay=60).enqueue()

    handle = await again.enqueue()
    assert (await handle.job()).state is State.SUCCEEDED
    jobs = await client.jobs()
    assert len(jobs) == frames.DEEPEST
    failed = [job.error for job in jobs if job.state is State.FAILED]
    assert [error and error.type for error in failed] == ["InlineTooDeep"]
    assert failed[0] is not None
    assert "'again'" in failed[0].message


async def test_error_of_the_innermost_job_is_told_once(registry: Registry, client: InlineClient) -> None:
    @registry.job()
    async def again(number: int) -> None:
        await (await again.options(id=f"again-{number}").enqueue(number + 1)).result()

    handle = await again.options(id="again-0").enqueue(1)
    with pytest.raises(JobFailed) as failed:
        await handle.result()
    last = f"again-{frames.DEEPEST - 1}"
    assert str(failed.value).startswith(f"job again-0 failed: job {last} failed: InlineTooDeep: ")
    assert str(failed.value).count("JobFailed") == 0
    assert len(str(failed.value)) < 500


async def test_jobs_of_one_call_are_counted(
    registry: Registry, client: InlineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MOST_CALLS", 100)

    @registry.job()
    async def twice() -> None:
        await twice.enqueue()
        await twice.enqueue()

    await twice.enqueue()
    assert len(await client.jobs()) == 101


async def test_job_that_waits_for_what_waits_for_it_is_told(registry: Registry, client: InlineClient) -> None:
    @registry.job()
    async def child(parent: str) -> None:
        await client.wait_for(parent)

    @registry.job()
    async def parent(ctx: Context) -> None:
        await (await child.enqueue(ctx.job_id)).result()

    job = await (await parent.enqueue()).job()
    assert job.error is not None
    assert InlineDeadlock.__name__ in job.error.message

    @registry.job()
    async def outer(ctx: Context) -> None:
        async def step() -> None:
            await (await inner.enqueue()).result()

        await ctx.once("shared", step)

    @registry.job()
    async def inner(ctx: Context) -> int:
        async def step() -> int:
            return 1

        return await ctx.once("shared", step)

    job = await (await outer.enqueue()).job()
    assert job.error is not None
    assert InlineDeadlock.__name__ in job.error.message


async def test_step_runs_once_over_tries_and_jobs(registry: Registry, client: InlineClient) -> None:
    runs: list[int] = []

    @registry.job(max_tries=3)
    async def pay(ctx: Context) -> int:
        async def charge() -> int:
            runs.append(ctx.try_number)
            if ctx.try_number == 1:
                raise Retry
            return ctx.try_number

        paid = await ctx.once("payment-7", charge)
        if ctx.try_number == 2:
            raise Retry
        return paid

    assert [await (await pay.enqueue()).result() for _ in range(2)] == [2, 2]
    assert runs == [1, 2]


class Mailer:
    def __init__(self, name: str) -> None:
        self.name = name


class Session:
    def __init__(self, number: int) -> None:
        self.number = number


@pytest.fixture
def steps(registry: Registry) -> list[str]:
    """What happens to the resources that the registry provides."""
    seen: list[str] = []

    @registry.resource
    async def mailer() -> AsyncIterator[Mailer]:
        seen.append("open mailer")
        yield Mailer("real")
        seen.append("close mailer")

    @registry.resource
    async def session(ctx: Context) -> AsyncIterator[Session]:
        seen.append(f"begin {ctx.try_number}")
        try:
            yield Session(ctx.try_number)
        except BaseException:
            seen.append("roll back")
            raise
        seen.append("commit")

    return seen


async def test_resources_are_opened_for_the_first_job_and_closed_at_the_end(
    registry: Registry, steps: list[str]
) -> None:
    @registry.job(max_tries=2)
    async def send(ctx: Context, mailer: Mailer = injected, session: Session = injected) -> str:
        if ctx.try_number == 1:
            raise Retry
        return mailer.name

    async with inline(registry):
        assert steps == []
        assert await (await send.enqueue()).result() == "real"
        await send.enqueue()
        assert steps.count("open mailer") == 1
    assert steps[:5] == ["open mailer", "begin 1", "roll back", "begin 2", "commit"]
    assert steps[-1] == "close mailer"


async def test_replaced_resources_are_given_in_their_place(registry: Registry, steps: list[str]) -> None:
    class Fake:
        name = "fake"
        number = 0

    @registry.job()
    async def send(ctx: Context, mailer: Mailer = injected, session: Session = injected) -> tuple[str, int, str]:
        return mailer.name, session.number, ctx.resource(Mailer).name

    @registry.job()
    def send_in_thread(mailer: Mailer = injected) -> str:
        return mailer.name

    replacing = (replaced(Mailer, Fake(), registry=registry), replaced(Session, Fake(), registry=registry))
    async with inline(registry):
        await send.enqueue()
        assert steps == ["open mailer", "begin 1", "commit"]
        steps.clear()
        with replacing[0], replacing[1]:
            result: object = await (await send.enqueue()).result()
            assert result == ["fake", 0, "fake"]
            assert await (await send_in_thread.enqueue()).result() == "fake"
        assert steps == ["close mailer"]
        assert await (await send_in_thread.enqueue()).result() == "real"


async def test_resource_that_cannot_be_opened_is_told_by_enqueue_and_tried_again(registry: Registry) -> None:
    tries: list[int] = []

    @registry.resource
    async def mailer() -> AsyncIterator[Mailer]:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionRefusedError("no mail server")
        yield Mailer("late")

    @registry.job()
    async def send(mailer: Mailer = injected) -> str:
        return mailer.name

    async with inline(registry) as client:
        with pytest.raises(ConnectionRefusedError):
            await send.enqueue()
        assert await client.jobs() == []
        assert await (await send.enqueue()).result() == "late"


async def test_what_needs_redis_says_so_at_once(client: InlineClient) -> None:
    began = time.monotonic()
    for asked in (client.pause_queue("default"), client.purge_queue("default"), client.schedules.all()):
        with pytest.raises(NotInline, match="EMBARQ_INLINE"):
            await asked
    assert time.monotonic() - began < 2
    assert (await client.queues(), await client.workers()) == ([], [])


async def test_hooks_are_called_and_have_ended_when_enqueue_returns(registry: Registry, client: InlineClient) -> None:
    seen: list[tuple[str, object]] = []
    tenant = contextvars.ContextVar("tenant", default="nobody")

    @registry.on_job_start
    async def start(ctx: Context) -> None:
        tenant.set("Ada")
        seen.append(("start", ctx.try_number))

    @registry.on_job_end
    async def end(ctx: Context, end: JobEnd) -> None:
        seen.append(("end", end.state))

    @registry.after_job_end
    async def after(ctx: Context, end: JobEnd) -> None:
        await asyncio.sleep(0.01)
        seen.append(("after", (await ctx.client.find(ctx.job_id)).state))

    @registry.job(max_tries=2)
    async def twice(ctx: Context) -> str:
        if ctx.try_number == 1:
            raise Retry
        return tenant.get()

    assert await (await twice.enqueue()).result() == "Ada"
    assert seen == [
        ("start", 1),
        ("end", State.RETRYING),
        ("after", State.RETRYING),
        ("start", 2),
        ("end", State.SUCCEEDED),
        ("after", State.SUCCEEDED),
    ]


async def test_job_has_a_client_and_the_time_of_its_enqueue(registry: Registry, client: InlineClient) -> None:
    @registry.job()
    async def other() -> str:
        return "other"

    @registry.job()
    async def one(ctx: Context) -> str:
        assert abs((datetime.now(UTC) - ctx.enqueue_time).total_seconds()) < 60
        await ctx.client.arq.enqueue_job("other", _job_id="by-name")
        return str((await ctx.client.find("by-name")).result)

    assert await (await one.enqueue()).result() == "other"


async def test_failure_keeps_its_class(registry: Registry, client: InlineClient) -> None:
    @registry.job()
    async def fail() -> None:
        raise LookupError("no such page", 7)

    with pytest.raises(JobFailed) as failed:
        await (await fail.enqueue()).result()
    assert isinstance(failed.value.__cause__, LookupError)
    assert failed.value.__cause__.args == ("no such page", 7)


async def test_calls_of_arq_are_run_too(registry: Registry, client: InlineClient) -> None:
    @registry.job()
    async def add(a: int, b: int) -> int:
        return a + b

    await client.arq.enqueue_job("add", 1, b=2, _job_id="arq-1", _defer_by=60)
    assert (await client.find("arq-1")).result == 3


async def test_why_of_a_job_is_nothing(registry: Registry, client: InlineClient) -> None:
    @registry.job()
    async def nothing() -> None: ...

    handle = await nothing.enqueue()
    assert await client.why(handle.id) == []
    with pytest.raises(JobNotFound):
        await client.why("unknown")


async def test_block_gives_the_client_back_that_was_bound_before(registry: Registry) -> None:
    async with inline(registry) as outer:
        async with inline(registry) as inner:
            assert registry.producer is inner
        assert registry.producer is outer
    with pytest.raises(EmbarqError, match="EMBARQ_INLINE"):
        _ = registry.producer


def test_jobs_run_in_several_threads_and_loops_at_once(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBARQ_INLINE", "1")

    @registry.job()
    async def give(number: int) -> int:
        await asyncio.sleep(0.01)
        return number

    async def many(start: int) -> list[int]:
        handles = [await give.enqueue(number) for number in range(start, start + 20)]
        return [await handle.result(5) for handle in handles]

    found: dict[int, list[int]] = {}
    threads = [
        threading.Thread(target=lambda start=start: found.__setitem__(start, asyncio.run(many(start))))
        for start in (0, 100, 200)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == {start: list(range(start, start + 20)) for start in (0, 100, 200)}


async def test_job_of_one_loop_is_awaited_and_cancelled_from_another(registry: Registry, client: InlineClient) -> None:
    inside = threading.Event()

    @registry.job()
    async def long() -> None:
        inside.set()
        await asyncio.sleep(60)

    there = asyncio.create_task(asyncio.to_thread(asyncio.run, long.options(id="far").enqueue()))
    await asyncio.to_thread(inside.wait, 15)
    waiter = asyncio.create_task(client.wait_for("far", 15))
    await asyncio.sleep(0.1)
    assert await client.cancel("far") is State.RUNNING
    assert (await waiter).state is State.CANCELLED
    await there


async def test_environment_turns_it_on(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    @registry.job()
    async def greet(name: str) -> str:
        return f"hello {name}"

    monkeypatch.setenv("EMBARQ_INLINE", "1")
    handle = await greet.enqueue("Ada")
    assert await handle.result() == "hello Ada"
    async with Client.open("redis://nowhere.invalid:1") as client:
        assert isinstance(client, InlineClient)
        assert await (await client.enqueue(greet.call("Bob"))).result() == "hello Bob"
        assert [job.state for job in [await client.find(handle.id)]] == [State.SUCCEEDED]
        flow = await client.start(greet.s("Eve"), {})
        assert await flow.result() == "hello Eve"
        many = await client.enqueue_many([greet.call("Kim")])
        assert await many[0].result() == "hello Kim"
    monkeypatch.setenv("EMBARQ_INLINE", "0")
    with pytest.raises(EmbarqError, match="no client"):
        await greet.enqueue("Ada")


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"EMBARQ_INLINE": "1", "EMBARQ_ENV": "production"}, "production"),
        ({"EMBARQ_INLINE": "1", "DYNO": "web.1"}, "production"),
        ({"EMBARQ_INLINE": "maybe"}, "must be 1 or 0"),
    ],
)
async def test_production_refuses_it_in_one_line(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], told: str
) -> None:
    @registry.job()
    async def nothing() -> None: ...

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(EmbarqError, match=told) as refused:
        await nothing.enqueue()
    assert "\n" not in str(refused.value)
    with pytest.raises(EmbarqError, match=told):
        async with Client.open("redis://nowhere.invalid:1"):
            pass
    monkeypatch.setenv("EMBARQ_INLINE", "1")
    monkeypatch.setenv("EMBARQ_ENV", "development")
    await nothing.enqueue()


async def test_long_job_shows_its_progress_to_others(registry: Registry, client: InlineClient) -> None:
    go_on = asyncio.Event()

    @registry.job()
    async def work(ctx: Context) -> None:
        ctx.progress(3, 10)
        await go_on.wait()

    running = asyncio.create_task(work.options(id="w").enqueue())

    async def seen() -> bool:
        try:
            job = await client.find("w")
        except JobNotFound:
            return False
        return job.state is State.RUNNING and job.progress is not None and job.progress.current == 3

    await eventually(seen)
    go_on.set()
    await running


def test_too_deep_is_an_error_of_ours() -> None:
    assert issubclass(InlineTooDeep, EmbarqError)


async def test_loops_of_many_threads_come_and_go(registry: Registry, client: InlineClient) -> None:
    @registry.job()
    async def nothing() -> None: ...

    errors: list[BaseException] = []

    async def enqueue_and_cancel() -> None:
        handle = await client.enqueue(nothing.call())
        with contextlib.suppress(JobEnded):
            await handle.cancel()

    def come_and_go() -> None:
        try:
            for _ in range(20):
                asyncio.run(enqueue_and_cancel())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=come_and_go) for _ in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join, 60)
    finally:
        sys.setswitchinterval(interval)
    assert errors == []
    assert len(await client.jobs()) == 160


async def test_step_is_done_once_by_jobs_of_all_loops_and_its_memory_is_bounded(
    registry: Registry, client: InlineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    @registry.job()
    async def pay(ctx: Context, order: str) -> str:
        async def charge() -> str:
            done.append(order)
            return "x" * 1000

        return await ctx.once(order, charge)

    async def twice(order: str) -> None:
        await pay.enqueue(order)
        await asyncio.to_thread(lambda: asyncio.run(client.enqueue(pay.call(order))))

    await twice("7")
    assert done == ["7"]
    monkeypatch.setattr(step_records, "MOST_BYTES", 2_500)
    for order in ("8", "9", "9", "8", "7"):  # of two there is room
        await twice(order)
    assert done == ["7", "8", "9", "7"]
