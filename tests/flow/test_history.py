"""Ended jobs in the database: each once, with its tries, whatever happens to writers and the database meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.support import Kit, eventually
from worker import Client, Context, Registry, Retry, State
from worker.broker.opening import blocking_connection
from worker.core import keys
from worker.core.errors import JobNotFound
from worker.dev import private_redis
from worker.history import stream as stream_module
from worker.history.reader import History, InvalidCursor, Query
from worker.history.stream import GROUP, Entry
from worker.history.tables import jobs_table, tries_table
from worker.history.writer import HistoryWriter


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[str]:
    with private_redis(tmp_path / "redis") as url:
        yield url


@pytest.fixture
async def own(own_redis: str) -> AsyncIterator[Kit]:
    """A kit on a Redis of its own, since recording is switched on for all of a Redis."""
    registry = Registry()
    async with Client.open(own_redis) as client:
        registry.bind(client)
        yield Kit(client, registry, "default")


def writer(own: Kit, engine: AsyncEngine, name: str = "w1", days: float = 30) -> HistoryWriter:
    return HistoryWriter(engine, own.client.connections, name, days)


@asynccontextmanager
async def writing(own: Kit, engine: AsyncEngine, name: str = "w1") -> AsyncIterator[None]:
    task = asyncio.create_task(writer(own, engine, name).run())
    await eventually(lambda: recording(own))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def recording(own: Kit) -> bool:
    return bool(await own.client.redis.exists(keys.RECORDING))


async def count(engine: AsyncEngine, table: Any) -> int:
    async with engine.connect() as connection:
        return (await connection.execute(select(func.count()).select_from(table))).scalar_one()


async def written(engine: AsyncEngine, jobs: int) -> bool:
    return await count(engine, jobs_table) == jobs


async def test_ended_jobs_are_kept_with_their_tries(own: Kit, migrated: AsyncEngine) -> None:
    @own.registry.job(max_tries=3)
    async def work(ctx: Context, how: str) -> str:
        ctx.progress(1, 2, "half", meta={"file": "a.csv", "rows": [1, 2], "odd": {"x": None}})
        if how == "retry" and ctx.try_number < 3:
            raise Retry(delay=0)
        if how == "fail":
            raise ValueError("no \x00 luck")
        return how

    history = History(migrated)
    async with writing(own, migrated):
        handles = {how: await own.enqueue(work, {"how": how}, tags=["t", how]) for how in ("well", "retry", "fail")}
        waiting = await own.enqueue(work, {"how": "never"}, delay=60)
        await waiting.cancel()
        async with own.worker():
            for handle in handles.values():
                await own.ended(handle.id)
            await eventually(lambda: written(migrated, 4))
    for how, handle in handles.items():
        known, kept = await handle.job(), await history.find(handle.id)
        if how != "fail":  # Postgres has no NUL
            assert kept == known
    retried = await history.find(handles["retry"].id)
    assert [(each.number, each.outcome) for each in retried.attempts] == [(1, "retry"), (2, "retry"), (3, "succeeded")]
    failed = await history.find(handles["fail"].id)
    assert failed.error is not None
    assert failed.error.message == "no  luck"
    assert (await history.find(waiting.id)).state is State.CANCELLED
    with pytest.raises(JobNotFound):
        await history.find("nobody")
    assert await own.client.redis.xlen(keys.RECORDS) == 0


async def test_list_filters_and_pages(own: Kit, migrated: AsyncEngine) -> None:
    @own.registry.job()
    async def first(text: str) -> None: ...

    @own.registry.job()
    async def second(text: str) -> None:
        raise ValueError("the printer is on fire")

    async with writing(own, migrated):
        for n in range(30):
            await own.enqueue(
                first if n % 3 else second, {"text": f"number {n}"}, tags=["even" if n % 2 == 0 else "odd"]
            )
        await own.drain()
        await eventually(lambda: written(migrated, 30))
    history = History(migrated)

    async def found(**fields: Any) -> int:
        return len((await history.list(Query(limit=200, **fields))).jobs)

    assert await found() == 30
    assert await found(state=State.FAILED) == await found(job="second") == 10
    assert await found(tag="even") == 15
    assert await found(queue="nothing") == 0
    assert await found(words="printer fire") == 10
    assert await found(words="number 7") == 1
    newest = (await history.list(Query(limit=1))).jobs[0]
    assert newest.finished_at is not None
    assert await found(since=newest.finished_at) >= 1
    assert await found(until=newest.finished_at - timedelta(days=1)) == 0
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await history.list(Query(limit=7, after=cursor))
        seen += [job.id for job in page.jobs]
        cursor = page.following
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 30
    with pytest.raises(InvalidCursor):
        await history.list(Query(after="nonsense"))


async def test_writer_that_dies_before_it_acknowledges_writes_nothing_twice(
    own: Kit, migrated: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "ADOPT_AFTER_MS", 100)

    @own.registry.job()
    async def work(n: int) -> int:
        return n

    redis = blocking_connection(own.client.connections)
    await writer(own, migrated).write_once(redis)  # makes the group
    for n in range(50):
        await own.enqueue(work, {"n": n})
    await own.drain()
    dead = writer(own, migrated, "dead")
    entries = await redis.xreadgroup(GROUP, "dead", {keys.RECORDS: ">"}, count=10)
    await dead._write_all([Entry(entry_id, 0, fields[b"e"]) for entry_id, fields in entries[0][1]])
    await asyncio.sleep(0.2)  # it is gone: committed, not acknowledged
    async with writing(own, migrated, "heir"):
        await eventually(lambda: written(migrated, 50))
        await eventually(lambda: empty(own))
    assert await count(migrated, tries_table) == 50
    await redis.aclose(close_connection_pool=True)


async def empty(own: Kit) -> bool:
    return bool(await own.client.redis.xlen(keys.RECORDS) == 0)


async def test_database_away_for_a_while_leaves_no_gap(own: Kit, migrated: AsyncEngine) -> None:
    @own.registry.job()
    async def work(n: int) -> int:
        return n

    async with writing(own, migrated):
        async with migrated.begin() as connection:
            await connection.execute(text("ALTER TABLE embarq_jobs RENAME TO embarq_gone"))
        for n in range(200):
            await own.enqueue(work, {"n": n})
        await own.drain()
        await asyncio.sleep(0.5)
        async with migrated.begin() as connection:
            await connection.execute(text("ALTER TABLE embarq_gone RENAME TO embarq_jobs"))
        await eventually(lambda: written(migrated, 200), 20)
        await eventually(lambda: empty(own))


async def test_old_rows_are_pruned(own: Kit, migrated: AsyncEngine) -> None:
    @own.registry.job()
    async def work(n: int) -> int:
        return n

    async with writing(own, migrated):
        for n in range(5):
            await own.enqueue(work, {"n": n})
        await own.drain()
        await eventually(lambda: written(migrated, 5))
    assert await writer(own, migrated, days=1).prune_once() == 0
    assert await writer(own, migrated, days=1e-9).prune_once() == 5
    assert await count(migrated, tries_table) == 0


async def test_without_a_writer_nothing_is_recorded(own: Kit) -> None:
    @own.registry.job()
    async def work() -> None: ...

    await own.enqueue(work)
    await own.drain()
    assert await own.client.redis.exists(keys.RECORDS) == 0
