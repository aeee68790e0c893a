"""What a test of one's own jobs gets: it queues on a real Redis, nothing runs until it says so, and nothing stays."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from unittest.mock import ANY

import pytest

from tests.support import logged
from worker import (
    Client,
    ConcurrencyLimit,
    Context,
    EmbarqError,
    Permanent,
    Priority,
    RateLimit,
    Registry,
    ResourceUnavailable,
    Retry,
    RetryPolicy,
    State,
    SyncClient,
    chain,
    injected,
    inline,
)
from worker.broker.encoding import new_id
from worker.core import keys
from worker.core.errors import JobEnded, JobFailed, JobNotFound, TimeLimitExceeded, UnknownResource
from worker.testing import Kit, replaced


class Mailer:
    """Sends for real."""

    async def send(self, to: str) -> None:
        raise AssertionError(f"a mail to {to}")


class Outbox:
    """No mailer, but looks like one."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def send(self, to: str) -> None:
        self.sent.append(to)


async def test_nothing_runs_until_drained(embarq: Kit, registry: Registry) -> None:
    ran: list[int] = []

    @registry.job()
    async def note(number: int) -> int:
        ran.append(number)
        return number + 1

    handle = await note.enqueue(1)
    await asyncio.sleep(0.1)
    assert (await handle.job()).state is State.QUEUED
    assert not ran
    jobs = await embarq.drain()
    assert [(job.id, job.state, job.result) for job in jobs] == [(handle.id, State.SUCCEEDED, 2)]
    assert await handle.result(timeout=0) == 2
    assert await embarq.drain() == []


async def test_what_was_enqueued_is_told(embarq: Kit, registry: Registry) -> None:
    @registry.job(queue="mail")
    async def send(to: str, subject: str, on: date) -> None: ...

    with pytest.raises(AssertionError, match=r"send\(\) was not enqueued; nothing was"):
        embarq.assert_enqueued(send)
    await send.options(delay=60, priority=Priority.HIGH, tags=("a",)).enqueue(
        "ada@example.com", "Hello", date(2026, 1, 2)
    )
    found = embarq.assert_enqueued(send, to="ada@example.com", subject=ANY, on=date(2026, 1, 2))
    assert found == embarq.assert_enqueued(send, on="2026-01-02")
    assert (found.queue, found.priority, found.delay, found.tags) == ("mail", Priority.HIGH, 60.0, ("a",))
    embarq.refute_enqueued(send, to="bob@example.com")
    with pytest.raises(AssertionError, match=r"to=.ada@example\.com."):
        embarq.refute_enqueued(send)
    with pytest.raises(AssertionError, match=r"send\(to='bob'\) was not enqueued; this was:\n  send\(to='ada@"):
        embarq.assert_enqueued(send, to="bob")
    with pytest.raises(TypeError, match="must be one of: to, subject, on; not 'too'"):
        embarq.assert_enqueued(send, too="bob")


async def test_jobs_of_workflows_and_bulks_are_told(embarq: Kit, registry: Registry) -> None:
    @registry.job()
    async def first(number: int) -> int:
        return number

    @registry.job(queue="second")
    async def second(number: int, more: int) -> int:
        return number + more

    flow = await chain(first.s(1), second.s(more=4)).enqueue()
    assert embarq.assert_enqueued(second, more=4).workflow_id == flow.id
    await embarq.client.enqueue_many(first.call(number) for number in range(3))
    assert len(embarq.enqueued) == 5
    await embarq.drain()
    assert (await flow.result(timeout=0)) == 5


async def test_a_call_that_stands_for_another_is_not_told(embarq: Kit, registry: Registry) -> None:
    @registry.job(unique_for=60)
    async def once(number: int) -> None: ...

    one, other = await once.enqueue(1), await once.enqueue(1)
    assert (one.id, other.created) == (other.id, False)
    assert len(embarq.enqueued) == 1


async def test_time_does_not_pass(embarq: Kit, registry: Registry) -> None:
    ran: list[str] = []

    @registry.job(max_tries=4, retry=RetryPolicy(on=(ConnectionError,), delay=600))
    async def shaky(ctx: Context) -> int:
        ran.append(f"shaky {ctx.try_number}")
        if ctx.try_number < 3:
            raise ConnectionError
        raise Retry(delay=3600) if ctx.try_number < 4 else Permanent("enough")

    @registry.job()
    async def note(what: str) -> None:
        ran.append(what)

    await note.options(run_at=datetime(2100, 1, 1, tzinfo=UTC)).enqueue("in 2100")
    await note.options(delay=7200).enqueue("in two hours")
    await note.enqueue("now")
    await shaky.enqueue()
    began = asyncio.get_running_loop().time()
    *_, last = await embarq.drain(raises=False)
    assert asyncio.get_running_loop().time() - began < 15
    assert sorted(ran[:2]) == ["now", "shaky 1"]
    assert ran[2:] == ["shaky 2", "shaky 3", "shaky 4", "in two hours", "in 2100"]
    assert last.args == {"what": "in 2100"}


async def test_rates_do_not_hold_jobs_back_and_concurrency_does(embarq: Kit, registry: Registry) -> None:
    inside = most = 0

    @registry.job(limits=[RateLimit("1/h"), ConcurrencyLimit(1, by="tenant")])
    async def limited(tenant: str) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.01)
        inside -= 1

    for _ in range(5):
        await limited.enqueue("one")
    assert len(await embarq.drain()) == 5
    assert most == 1


async def test_what_jobs_queue_runs_too_in_queues_of_any_name(embarq: Kit, registry: Registry) -> None:
    @registry.job()
    async def countdown(number: int) -> int:
        if number:
            await countdown.options(queue=f"queue-{number}").enqueue(number - 1)
        return number

    await countdown.enqueue(5)
    assert [job.result for job in await embarq.drain()] == [5, 4, 3, 2, 1, 0]


async def test_unique_keys_as_long_as_may_be_are_told_apart(embarq: Kit, registry: Registry) -> None:
    @registry.job(name="once", unique_for=60)
    async def once() -> None: ...

    long = "\N{ENVELOPE}" * 165  # 495 bytes, of 512 with the job's name and the time
    one, other, again = [await once.options(unique_key=long + end).enqueue() for end in "aba"]
    assert (one.created, other.created, again.id) == (True, True, one.id)
    assert len(await embarq.drain()) == 2


async def test_error_of_a_job_is_raised(embarq: Kit, registry: Registry) -> None:
    @registry.job()
    async def broken(number: int) -> None:
        raise KeyError(number)

    handle = await broken.enqueue(1)
    with pytest.raises(KeyError) as raised:
        await embarq.drain()
    assert raised.value.__notes__ == [f"raised by job 'broken', id {handle.id}, try 1"]
    await broken.enqueue(2)
    await broken.enqueue(3)
    with pytest.raises(ExceptionGroup) as several:
        await embarq.drain()
    assert sorted(str(error) for error in several.value.exceptions) == ["2", "3"]
    await broken.enqueue(4)
    (job,) = await embarq.drain(raises=False)
    assert job.state is State.FAILED


async def test_error_that_would_end_the_test_is_an_ordinary_one(embarq: Kit, registry: Registry) -> None:
    @registry.job(soft_timeout=0.1)
    async def slow() -> None:
        await asyncio.sleep(60)

    await slow.enqueue()
    with pytest.raises(JobFailed, match="SoftTimeLimitExceeded"):
        await embarq.drain()


async def test_job_of_a_resource_that_is_away_ends(embarq: Kit, registry: Registry) -> None:
    @registry.job(max_tries=2)
    async def away() -> None:
        raise ResourceUnavailable("gone")

    await away.enqueue()
    with pytest.raises(ResourceUnavailable):
        await embarq.drain()


async def test_job_that_nobody_knows_ends(embarq: Kit, registry: Registry) -> None:
    @registry.job()
    async def known() -> None: ...

    await embarq.client.arq.enqueue_job("unknown", _defer_by=60)
    with pytest.raises(EmbarqError, match="unknown"):
        await embarq.drain()


async def test_circle_is_told(embarq: Kit, registry: Registry) -> None:
    @registry.job()
    async def forever() -> None:
        await forever.options(delay=60).enqueue()

    await forever.enqueue()
    with pytest.raises(AssertionError, match="do they queue themselves"):
        await embarq.drain(most=20)


async def test_job_that_does_not_end_is_told(embarq: Kit, registry: Registry) -> None:
    @registry.job()
    async def stuck() -> None:
        await asyncio.sleep(600)

    await stuck.enqueue()
    with pytest.raises(AssertionError, match=r"not drained after 1 s; .*stuck\(\) in queue 'default'"):
        await embarq.drain(timeout=1)


@pytest.mark.parametrize(
    ("swallowed", "limit", "told"),
    [
        (asyncio.CancelledError, 600, AssertionError),
        (asyncio.CancelledError, 0.2, TimeLimitExceeded),
        (BaseException, 600, AssertionError),
    ],
)
def test_job_that_swallows_its_cancellation_does_not_hold_the_loop(
    redis_url: str, swallowed: type[BaseException], limit: float, told: type[Exception]
) -> None:
    registry = Registry()

    @registry.job(timeout=limit)
    async def deaf() -> None:
        while True:
            with contextlib.suppress(swallowed):
                await asyncio.sleep(600)

    async def drained() -> None:
        async with Kit.open(redis_url, registry) as kit:
            await deaf.enqueue()
            await kit.drain(timeout=30 if limit < 1 else 1)

    ended: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(drained())
        except Exception as error:
            ended.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    with logged("embarq.testing") as lines:
        thread.join(45)
    assert [type(error) for error in ended] == [told]
    assert ["swallows its cancellation" in line["event"] for line in lines] == [True]


async def test_stand_in_for_a_resource(embarq: Kit, registry: Registry) -> None:
    @registry.resource
    async def mailer() -> AsyncIterator[Mailer]:
        yield Mailer()

    @registry.job()
    async def send(to: str, mailer: Mailer = injected) -> None:
        await mailer.send(to)

    @registry.job()
    async def send_by_context(ctx: Context, to: str) -> None:
        await ctx.resource(Mailer).send(to)

    with embarq.replaced(Mailer, Outbox()) as outbox:
        await send.enqueue("ada")
        await embarq.drain()
        await send_by_context.enqueue("bob")
        await embarq.drain()
    assert outbox.sent == ["ada", "bob"]
    await send.enqueue("carol")
    with pytest.raises(AssertionError, match="a mail to carol"):
        await embarq.drain()


async def test_stand_in_for_what_each_try_opens(embarq: Kit, registry: Registry) -> None:
    @registry.resource
    async def mailer(ctx: Context) -> AsyncIterator[Mailer]:
        raise AssertionError(f"opened for {ctx.job}")
        yield Mailer()

    @registry.job()
    async def send(to: str, mailer: Mailer = injected) -> None:
        await mailer.send(to)

    await send.enqueue("ada")
    with replaced(Mailer, Outbox(), registry=registry) as outbox:
        await embarq.drain()
    assert outbox.sent == ["ada"]


def test_stand_in_for_what_nobody_provides(registry: Registry) -> None:
    with pytest.raises(UnknownResource, match="nothing provides Mailer"), replaced(Mailer, None, registry=registry):
        pass


async def test_nothing_is_left_in_redis(redis_url: str, client: Client, registry: Registry) -> None:
    @registry.job(unique_for=3600, limits=[ConcurrencyLimit(1, by="number")])
    async def kept(number: int) -> int:
        return number

    @registry.job(debounce=3600)
    async def waits() -> None: ...

    before = set(await client.redis.keys("*"))
    for _ in range(2):  # the second finds nothing of the first, though ids and keys are the same
        async with Kit.open(redis_url, registry) as kit:
            handle = await kept.options(id="the-id", queue="own").enqueue(1)
            assert handle.created
            await chain(kept.s(2), kept.si(3)).enqueue(id="the-flow")
            await kit.client.pause_queue("other")
            await kit.client.resume_queue("other")
            await kit.drain()
            await waits.enqueue()
            await kept.enqueue(4)
    left = set(await client.redis.keys("*")) - before
    shared = {b"embarq:events", b"embarq:wake:*", b"embarq:queues", b"embarq:queues:active", b"embarq:queues:seen"}
    assert left <= shared
    known = [
        *await client.redis.execute_command("SMEMBERS", "embarq:queues"),
        *await client.redis.execute_command("SMEMBERS", "embarq:queues:active"),
        *await client.redis.execute_command("ZRANGE", "embarq:queues:seen", 0, -1),
    ]
    assert not [each for each in known if kit.client.tag.text.encode() in each]


async def test_queues_of_others_are_left_alone(redis_url: str, client: Client, registry: Registry, queue: str) -> None:
    @registry.job()
    async def theirs() -> None: ...

    other = await client.enqueue(theirs.options(queue=queue).call())
    async with Kit.open(redis_url, registry) as kit:
        await theirs.options(queue=queue).enqueue()
        assert await kit.client.purge_queue(queue) == 1
        assert await kit.drain() == []
    assert (await client.find(other.id)).state is State.QUEUED
    await client.purge_queue(queue)


async def test_client_of_before_is_bound_again(redis_url: str, client: Client, registry: Registry) -> None:
    async with Kit.open(redis_url, registry):
        pass
    with pytest.raises(EmbarqError, match="no client is bound in this process"):
        _ = registry.producer
    registry.bind(client)
    async with Kit.open(redis_url, registry) as kit:
        assert registry.producer is kit.client
    assert registry.producer is client
    registry.bind(None)


async def test_client_of_an_inner_block_gives_way_to_the_one_around_it(redis_url: str, client: Client) -> None:
    registry = Registry()
    served: list[object] = []
    async with Kit.open(redis_url, registry) as kit:
        async with inline(registry) as inner:
            served.append(registry.producer)
            registry.bind(client)  # as code under test may, which ends later
        served.append(registry.producer)
        registry.bind(None)
        served.append(registry.producer)
    assert served == [inner, client, kit.client]


async def test_test_that_fails_leaves_nothing_in_redis(redis_url: str, client: Client, registry: Registry) -> None:
    @registry.job()
    async def nothing() -> None: ...

    used: list[str] = []

    async def fail() -> None:
        async with Kit.open(redis_url, registry) as kit:
            used.extend(((await nothing.enqueue()).id, kit.queue()))
            raise AssertionError("as tests do")

    with pytest.raises(AssertionError, match="as tests do"):
        await fail()
    with pytest.raises(JobNotFound):
        await client.find(used[0])
    assert used[1] not in {record.queue for record in await client.queues()}


async def test_code_that_cannot_await_queues_into_the_test_too(
    embarq: Kit, registry: Registry, redis_url: str, client: Client
) -> None:
    @registry.job(queue="mail")
    async def send(to: str) -> str:
        return f"to {to}"

    @registry.job()
    def fan_out() -> list[str]:
        handles = [send.enqueue_sync(to) for to in ("a", "b")]
        return [handle.result(timeout=30) for handle in handles]

    @registry.job(max_tries=1)
    async def blocking() -> None:
        send.enqueue_sync("nobody")

    with SyncClient(redis_url, registry=registry):  # of an application that was opened before
        async with Kit.open(redis_url, registry) as inner:
            handle = send.enqueue_sync("ada")
            in_thread = await asyncio.to_thread(chain(send.s("bob"), send.si("eve")).enqueue_sync)
            await fan_out.enqueue()
            assert inner.assert_enqueued(send, to="ada").queue == "mail"
            jobs = await inner.drain()
            assert handle.result(timeout=15) == "to ada"
            assert in_thread.result(timeout=15) == "to eve"
            assert ["to a", "to b"] in [job.result for job in jobs]
            inner.assert_enqueued(send, to="b")
            await blocking.enqueue()
            with pytest.raises(EmbarqError, match="await"):
                await inner.drain()
            inner.refute_enqueued(send, to="nobody")
    with pytest.raises(JobNotFound):
        await client.find(handle.id)
    assert embarq.enqueued == []


async def test_what_others_limit_in_a_job_does_not_reach_another_test(redis_url: str, registry: Registry) -> None:
    @registry.job(debounce=0.2)
    async def settle(number: int) -> int:
        return number

    async with Kit.open(redis_url, registry) as one, Kit.open(redis_url, registry) as other:
        first = await one.client.enqueue(settle.options(unique_key="k").call(1))
        second = await other.client.enqueue(settle.options(unique_key="k").call(2))
        assert first.id != second.id
        third = await other.client.enqueue(settle.options(unique_key="k").call(3))
        assert third.id == second.id
        await other.drain()
        await one.drain()
        assert await third.result(timeout=0) == 3


async def test_ids_of_others_are_left_alone(redis_url: str, client: Client, registry: Registry) -> None:
    seen: list[tuple[str, str | None]] = []

    @registry.job()
    async def order(ctx: Context, number: int) -> int:
        seen.append((ctx.job_id, ctx.workflow_id))
        return number

    name, flow = f"order-{new_id()}", f"flow-{new_id()}"
    real = await client.enqueue(order.options(id=name, delay=3600).call(7))
    try:
        async with Kit.open(redis_url, registry) as one, Kit.open(redis_url, registry) as other:
            for kit in (one, other):
                handle = await kit.client.enqueue(order.options(id=name).call(1))
                again = await kit.client.enqueue(order.options(id=name).call(2))
                assert (handle.id, handle.created, again.id, again.created) == (name, True, name, False)
                started = await kit.client.start(chain(order.s(5)), {"id": flow})
                ended = {job.id: job.result for job in await kit.drain()}
                assert ended == {name: 1, f"{flow}~0": 5}
                assert (await kit.client.find(name)).id == name
                assert await handle.result(timeout=0) == 1
                assert (await started.workflow()).id == flow == (await kit.client.find(f"{flow}~0")).workflow_id
                with pytest.raises(JobEnded):
                    await kit.client.cancel(name)
                arqs = await kit.client.arq.enqueue_job("order", 3, _job_id=f"{name}-arq")
                await kit.drain()
                assert arqs is not None
                assert await arqs.result(timeout=15) == 3
        assert sorted(set(seen), key=str) == sorted([(name, None), (f"{flow}~0", flow), (f"{name}-arq", None)], key=str)
        found = await client.find(name)
        assert (found.state, found.args) == (State.DEFERRED, {"number": 7})
    finally:
        await client.cancel(real.id)


@pytest.mark.parametrize("said", ["x" * keys.ID_BYTES, "é" * 127])
async def test_long_ids_stay_apart_too(embarq: Kit, registry: Registry, said: str) -> None:
    @registry.job()
    async def note(ctx: Context) -> str:
        return ctx.job_id

    assert await embarq.client.arq.enqueue_job("note", _job_id=said) is not None
    assert [(job.id, job.result) for job in await embarq.drain()] == [(said, said)]
