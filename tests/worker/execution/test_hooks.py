"""Hooks around each try: when they are called, with what, and that they never harm a job."""

import asyncio
import time
from contextvars import ContextVar, Token
from typing import Any

import pytest

from tests.support import Kit, eventually, logged
from tests.worker import process_jobs
from worker import Client, Context, JobEnd, Registry, Retry, RetryPolicy, SoftTimeLimitExceeded, State
from worker.core import keys
from worker.core.errors import DefinitionError, TimeLimitExceeded
from worker.execution import hook_calls


class Noted:
    """What hooks saw, in order."""

    def __init__(self, registry: Registry) -> None:
        self.seen: list[tuple[Any, ...]] = []
        self.ends: list[JobEnd] = []

        @registry.on_job_start
        async def start(ctx: Context) -> None:
            self.seen.append(("start", ctx.try_number))

        @registry.on_job_end
        async def end(ctx: Context, end: JobEnd) -> None:
            self.seen.append(("end", end.state, (await ctx.client.find(ctx.job_id)).state))
            self.ends.append(end)

        @registry.after_job_end
        async def after(ctx: Context, end: JobEnd) -> None:
            self.seen.append(("after", end.state, (await ctx.client.find(ctx.job_id)).state))


@pytest.mark.parametrize("is_async", [True, False])
async def test_hooks_come_around_each_try_and_before_and_after_its_end_is_stored(kit: Kit, *, is_async: bool) -> None:
    noted = Noted(kit.registry)

    def body(ctx: Context) -> str:
        noted.seen.append(("job", ctx.try_number))
        if ctx.try_number == 1:
            raise Retry(delay=0)
        return "done"

    async def coroutine(ctx: Context) -> str:
        return body(ctx)

    job = kit.registry.job(name="work")(coroutine) if is_async else kit.registry.job(name="work")(body)
    await kit.enqueue(job)
    await kit.drain()
    assert [each for each in noted.seen if each[0] != "after"] == [
        ("start", 1),
        ("job", 1),
        ("end", State.RETRYING, State.RUNNING),
        ("start", 2),
        ("job", 2),
        ("end", State.SUCCEEDED, State.RUNNING),
    ]
    after = {each[1]: each[2] for each in noted.seen if each[0] == "after"}
    assert set(after) == {State.RETRYING, State.SUCCEEDED}
    assert after[State.SUCCEEDED] is State.SUCCEEDED
    assert isinstance(noted.ends[0].error, Retry)
    assert (noted.ends[1].result, noted.ends[1].error) == ("done", None)
    assert noted.ends[1].duration >= 0


async def test_end_tells_how_a_try_ended(kit: Kit) -> None:
    noted = Noted(kit.registry)

    @kit.registry.job(soft_timeout=0.2, timeout=0.4, retry=RetryPolicy(on=(LookupError,), delay=0), max_tries=1)
    async def work(how: str) -> None:
        try:
            if how == "fail":
                raise KeyError("broken")
            await asyncio.sleep(60)
        except SoftTimeLimitExceeded:
            await asyncio.sleep(60)

    failed, late = await kit.enqueue(work, {"how": "fail"}), await kit.enqueue(work, {"how": "sleep"})
    gone = await kit.enqueue(work, {"how": "sleep"}, soft_timeout=60, timeout=60)
    async with kit.worker():
        await kit.reaches(gone.id, State.RUNNING)
        await gone.cancel()
        for handle in (failed, late, gone):
            await kit.ended(handle.id)
    found = {type(end.error): end.state for end in noted.ends}
    assert found == {KeyError: State.FAILED, TimeLimitExceeded: State.FAILED, type(None): State.CANCELLED}


async def test_hooks_of_a_job_in_a_process(client: Client, queue: str) -> None:
    own = Registry()
    own.add(process_jobs.fail)
    kit, noted = Kit(client, own, queue), Noted(own)
    await kit.enqueue(process_jobs.fail, {"how": "retry"})
    await kit.drain()
    assert [each[0] for each in noted.seen].count("start") == 2
    assert [end.state for end in noted.ends] == [State.RETRYING, State.SUCCEEDED]


async def test_job_that_is_refused_before_its_function_has_no_hooks(kit: Kit) -> None:
    noted = Noted(kit.registry)

    @kit.registry.job()
    async def work(n: int) -> None: ...

    await kit.enqueue(work, {"n": 1}, expires_in=0.001)
    await kit.client.arq.enqueue_job("work", "x", _queue_name=kit.queue_key)
    await asyncio.sleep(0.01)
    await kit.drain()
    assert noted.seen == []


class Evil:
    """Hooks that do what no hook should."""

    def __init__(self, registry: Registry, how: str) -> None:
        self.called = 0

        async def misbehave() -> None:
            self.called += 1
            if how == "raises":
                raise ValueError("broken hook")
            if how == "exits":
                raise SystemExit(3)
            if how == "interrupts":
                raise KeyboardInterrupt
            if how == "cancels":
                raise asyncio.CancelledError
            while True:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    if how == "hangs" or self.called > 1000:
                        raise

        @registry.on_job_start
        async def start(ctx: Context) -> None:
            await misbehave()

        @registry.on_job_end
        async def end(ctx: Context, end: JobEnd) -> None:
            await misbehave()

        @registry.after_job_end
        async def after(ctx: Context, end: JobEnd) -> None:
            await misbehave()

    def release(self) -> None:
        self.called = 10_000


@pytest.mark.parametrize("how", ["raises", "exits", "interrupts", "cancels", "hangs", "swallows"])
async def test_hook_that_misbehaves_harms_no_job(kit: Kit, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook_calls, "WITHIN", 0.2)
    evil = Evil(kit.registry, how)

    @kit.registry.job()
    async def work(n: int) -> int:
        return n

    with logged("embarq.hooks") as lines:
        handles = [await kit.enqueue(work, {"n": n}) for n in range(3)]
        async with kit.worker(concurrency=2):
            assert [await handle.result(20) for handle in handles] == [0, 1, 2]
        assert evil.called == 9
        assert {(await handle.job()).tries for handle in handles} == {1}
        evil.release()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            if task.get_name().startswith("hook of"):
                task.cancel()
    if how in {"raises", "exits", "interrupts"}:
        assert [line["event"] for line in lines] == ["hook failed"] * 9
    elif how != "cancels":
        assert [line["event"] for line in lines].count("hook is cancelled: it takes too long") == 9


async def test_hooks_that_never_end_are_not_called_without_bound(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook_calls, "WITHIN", 0.05)
    monkeypatch.setattr(hook_calls, "MOST_LEFT", 2)
    evil = Evil(kit.registry, "swallows")

    @kit.registry.job()
    async def work() -> int:
        return 1

    with logged("embarq.hooks") as lines:
        handles = [await kit.enqueue(work) for _ in range(5)]
        async with kit.worker(concurrency=1):
            assert [await handle.result(20) for handle in handles] == [1] * 5
    assert evil.called == 2
    assert lines[-1]["event"] == "hook is not called: too many calls do not end"
    evil.release()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


async def test_cancelling_breaks_off_a_hook_and_what_the_job_returned_counts(kit: Kit) -> None:
    hanging = asyncio.Event()

    @kit.registry.on_job_end
    async def hang(ctx: Context, end: JobEnd) -> None:
        hanging.set()
        await asyncio.sleep(4)

    @kit.registry.job()
    async def work() -> int:
        return 5

    handle = await kit.enqueue(work)
    async with kit.worker():
        await asyncio.wait_for(hanging.wait(), 15)
        begun = time.monotonic()
        await handle.cancel()
        assert await handle.result(15) == 5
        assert time.monotonic() - begun < 3


async def test_worker_that_stops_waits_for_no_hook(kit: Kit) -> None:
    hanging = asyncio.Event()

    @kit.registry.after_job_end
    async def hang(ctx: Context, end: JobEnd) -> None:
        hanging.set()
        await asyncio.sleep(4.9)
        await asyncio.sleep(60)

    @kit.registry.job()
    async def work() -> int:
        return 5

    handle = await kit.enqueue(work)
    async with kit.worker(grace=0.1):
        await asyncio.wait_for(hanging.wait(), 15)
        assert await handle.result(15) == 5
        begun = time.monotonic()
    assert time.monotonic() - begun < 4.5


async def test_after_hooks_keep_the_slot(kit: Kit) -> None:
    most = now = 0

    @kit.registry.after_job_end
    async def slow(ctx: Context, end: JobEnd) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.05)
        now -= 1

    @kit.registry.job()
    async def work() -> None: ...

    for _ in range(20):
        await kit.enqueue(work)
    await kit.drain(concurrency=3)
    assert (now, most <= 6) == (0, True)


async def test_hooks_and_job_share_their_context_variables(kit: Kit) -> None:
    trace: ContextVar[str] = ContextVar("trace", default="none")
    tokens: dict[str, Token[str]] = {}

    @kit.registry.on_job_start
    async def start(ctx: Context) -> None:
        tokens[ctx.job_id] = trace.set(f"trace of {ctx.job_id}")

    @kit.registry.on_job_end
    async def end(ctx: Context, end: JobEnd) -> None:
        trace.reset(tokens.pop(ctx.job_id))

    @kit.registry.job()
    async def coroutine() -> str:
        return trace.get()

    @kit.registry.job()
    def thread() -> str:
        return trace.get()

    handles = [await kit.enqueue(coroutine), await kit.enqueue(thread)]
    with logged("embarq.hooks") as lines:
        await kit.drain()
    assert [await handle.result(1) for handle in handles] == [f"trace of {handle.id}" for handle in handles]
    assert (lines, tokens) == ([], {})


async def test_lost_lease_is_told_and_nothing_comes_after(kit: Kit) -> None:
    noted = Noted(kit.registry)

    @kit.registry.job()
    async def work() -> None:
        await asyncio.sleep(60)

    handle = await kit.enqueue(work)
    async with kit.worker(lease=1.5, grace=0.1):
        await kit.reaches(handle.id, State.RUNNING)
        await kit.client.redis.set(keys.LEASE + handle.id, "embarq:somebody-else:1", px=30_000)

        async def told() -> bool:
            return bool(noted.ends)

        await eventually(told)
    assert [(end.state, end.error) for end in noted.ends] == [(None, None)]
    assert [each[0] for each in noted.seen] == ["start", "end"]


def test_declarations_that_cannot_be_hooks_say_what_to_write() -> None:
    registry = Registry()

    def plain(ctx: Context) -> None: ...

    async def no_arguments() -> None: ...

    async def only_context(ctx: Context) -> None: ...

    with pytest.raises(
        DefinitionError, match=r"must be a coroutine function, and 'plain' is not: write `async def plain\(ctx\)`"
    ):
        registry.on_job_start(plain)  # type: ignore[type-var]  # that is what is tested
    with pytest.raises(DefinitionError, match=r"write `async def no_arguments\(ctx\)`"):
        registry.on_job_start(no_arguments)  # type: ignore[type-var]  # that is what is tested
    for declare in (registry.on_job_end, registry.after_job_end):
        with pytest.raises(DefinitionError, match=r"write `async def only_context\(ctx, end\)`"):
            declare(only_context)  # type: ignore[type-var]  # that is what is tested
    assert not registry.hooks.any
