"""Calls that a type checker must refuse; each line that is wrong says with which code. Never imported."""

from jobs.examples import echo, flaky, sleep
from worker import Context, job


@job()
async def send(ctx: Context, to: str, count: int = 1) -> bool:
    return bool(to and count)


@job()
def shrink(path: str) -> int:
    return len(path)


@job
async def bare(ctx: Context, to: str) -> int:
    return len(to)


async def right() -> None:
    handle = await send.enqueue("a@example.test", count=2)
    sent: bool = await handle.result()
    await send.options(delay=60, queue="mail").enqueue(to="a@example.test")
    size: int = await (await shrink.enqueue("x")).result()
    await sleep.enqueue(seconds=0.5)
    await echo.enqueue({"any": ["json"]})
    assert sent
    assert size
    assert await flaky(fail_times=0) == 1
    length: int = await (await bare.enqueue("x")).result()
    assert length


def right_without_await() -> None:
    handle = send.enqueue_sync("a@example.test", count=2)
    sent: bool = handle.result(timeout=30)
    size: int = shrink.options(delay=60).enqueue_sync(path="x").result()
    assert sent
    assert size


async def wrong() -> None:
    await send.enqueue()  # E: call-arg
    await send.enqueue(to=5)  # E: arg-type
    await send.enqueue("a", colour="red")  # E: call-arg
    await send.options(delay="soon").enqueue("a")  # E: typeddict-item arg-type
    await send.options(colour=1).enqueue("a")  # E: call-arg typeddict-unknown-key
    await send.options(delay=1).enqueue("a", count="two")  # E: arg-type
    text: str = await (await shrink.enqueue("x")).result()  # E: assignment
    await sleep.enqueue("long")  # E: arg-type
    await bare.enqueue(5)  # E: arg-type
    assert text


async def by_the_workers_client(ctx: Context) -> None:
    handle = await ctx.client.enqueue(send.call("a@example.test", count=2))
    sent: bool = await handle.result()
    text: str = await handle.result()  # E: assignment
    await ctx.client.enqueue(send.call(5))  # E: arg-type
    await ctx.client.zadd("a key", {"a": 1})  # E: attr-defined
    await ctx.client.redis.zadd("a key", {"a": 1})
    await ctx.client.arq.enqueue_job("send", "a@example.test", count=2)
    assert sent
    assert text


def wrong_without_await() -> None:
    send.enqueue_sync()  # E: call-arg
    send.options(delay=1).enqueue_sync("a", count="two")  # E: arg-type
    text: str = shrink.enqueue_sync("x").result()  # E: assignment
    assert text


@job(time_out=5)  # E: call-overload untyped-decorator
async def misspelt() -> None: ...
