"""`enqueue_in` in the calling process: run after the commit, and not at all without one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine

from worker import Client, InlineClient, JobDefinition, Registry, State, inline
from worker.core.errors import InvalidOptions


@pytest.fixture
async def engine(fresh_database: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """One connection at most: a job that is run while the caller holds it would wait for it in vain."""
    engine = create_async_engine(fresh_database.url, pool_size=1, max_overflow=0, pool_timeout=10)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE orders (id int PRIMARY KEY)"))
        parent = "int REFERENCES orders DEFERRABLE INITIALLY DEFERRED"
        await connection.execute(text(f"CREATE TABLE lines (parent {parent})"))
    yield engine
    await engine.dispose()


@pytest.fixture
async def client(registry: Registry) -> AsyncIterator[InlineClient]:
    async with inline(registry) as opened:
        yield opened


Count = JobDefinition[[str], int]


@pytest.fixture
def count(registry: Registry, client: InlineClient, engine: AsyncEngine) -> Count:
    """A job that counts the orders that others can see."""

    @registry.job()
    async def count(name: str) -> int:
        async with engine.connect() as connection:
            return int((await connection.execute(text("SELECT count(*) FROM orders"))).scalar_one())

    return count


async def names(client: InlineClient) -> list[Any]:
    return [job.args["name"] for job in await client.jobs()]


async def order(session: AsyncSession | AsyncConnection, number: int) -> None:
    await session.execute(text("INSERT INTO orders VALUES (:number)"), {"number": number})


async def test_job_has_run_when_commit_returns_and_sees_what_was_committed(
    engine: AsyncEngine, client: InlineClient, count: Count
) -> None:
    async with AsyncSession(engine) as session:
        await order(session, 1)
        job_id = await count.options(id="after").enqueue_in(session, "a")
        assert await client.jobs() == []
        await session.commit()
        job = await client.find(job_id)
        assert (job_id, job.state, job.result) == ("after", State.SUCCEEDED, 1)
        await order(session, 2)
        await count.enqueue_in(session, "b")
        await session.commit()
    async with AsyncSession(engine) as session, session.begin():
        await count.enqueue_in(session, "c")
    assert await names(client) == ["a", "b", "c"]


async def roll_back(session: AsyncSession) -> None:
    await session.rollback()


async def close(session: AsyncSession) -> None:
    await session.close()


async def fail_to_commit(session: AsyncSession) -> None:
    await session.execute(text("INSERT INTO lines VALUES (99)"))  # the check is deferred to the commit
    with pytest.raises(IntegrityError):
        await session.commit()
    await session.rollback()


@pytest.mark.parametrize("undo", [roll_back, close, fail_to_commit])
async def test_nothing_runs_without_a_commit(
    engine: AsyncEngine, client: InlineClient, count: Count, undo: Callable[[AsyncSession], Any]
) -> None:
    async with AsyncSession(engine) as session:
        await order(session, 1)
        await count.enqueue_in(session, "never")
        await undo(session)
        await count.enqueue_in(session, "next")
        await session.commit()
    assert await names(client) == ["next"]


async def test_nothing_runs_where_the_block_raises(engine: AsyncEngine, client: InlineClient, count: Count) -> None:
    async def order_and_fail() -> None:
        async with AsyncSession(engine) as session, session.begin():
            await count.enqueue_in(session, "never")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await order_and_fail()
    assert await names(client) == []


async def test_what_was_written_in_a_savepoint_shares_its_fate(
    engine: AsyncEngine, client: InlineClient, count: Count
) -> None:
    async with AsyncSession(engine) as session:
        savepoint = await session.begin_nested()
        await count.enqueue_in(session, "first, undone")
        await savepoint.rollback()
        await count.enqueue_in(session, "kept")
        async with session.begin_nested():
            await count.enqueue_in(session, "in a savepoint")
            inner = await session.begin_nested()
            await count.enqueue_in(session, "undone")
            await inner.rollback()
        assert await client.jobs() == []
        outer = await session.begin_nested()
        async with session.begin_nested():
            await count.enqueue_in(session, "kept, then undone with the outer one")
        await outer.rollback()
        await session.commit()
    assert await names(client) == ["kept", "in a savepoint"]


async def test_connection_without_a_session(
    fresh_database: AsyncEngine, engine: AsyncEngine, client: InlineClient, registry: Registry
) -> None:
    @registry.job()
    async def note(name: str) -> None: ...

    async with engine.begin() as connection:
        await note.enqueue_in(connection, "a")
        assert await client.jobs() == []
    assert await names(client) == ["a"]
    async with engine.connect() as connection:
        await note.enqueue_in(connection, "b")
        await connection.commit()
        await note.enqueue_in(connection, "never")
        await connection.rollback()
        await note.enqueue_in(connection, "never")
    assert await names(client) == ["a", "b"]
    async with engine.connect() as connection:
        await note.enqueue_in(connection, "c")
        await connection.commit()
        await order(connection, 1)
        with pytest.raises(IntegrityError):
            await order(connection, 1)
    assert await names(client) == ["a", "b", "c"]


async def test_session_within_a_transaction_of_its_callers_shares_its_fate(
    engine: AsyncEngine, client: InlineClient, registry: Registry
) -> None:
    @registry.job()
    async def note(name: str) -> None: ...

    for fate in ("commit", "rollback"):
        async with engine.connect() as connection:
            outer = await connection.begin()
            session = AsyncSession(connection, join_transaction_mode="create_savepoint")
            await note.enqueue_in(session, fate)
            await session.commit()
            await session.close()
            assert fate not in await names(client)
            await getattr(outer, fate)()
    assert await names(client) == ["commit"]


async def test_failure_of_a_job_and_of_its_resources_leaves_the_commit_alone(
    engine: AsyncEngine, client: InlineClient, registry: Registry
) -> None:
    class Mail:
        pass

    @registry.resource
    async def mail() -> AsyncIterator[Mail]:
        raise ConnectionRefusedError("no mail server")
        yield Mail()

    @registry.job()
    async def send() -> None: ...

    async with AsyncSession(engine) as session:
        await order(session, 1)
        await send.enqueue_in(session)
        await session.commit()
        assert (await session.execute(text("SELECT count(*) FROM orders"))).scalar_one() == 1
    assert await client.jobs() == []


async def test_job_of_a_transaction_may_have_one_of_its_own(
    engine: AsyncEngine, client: InlineClient, registry: Registry
) -> None:
    @registry.job()
    async def deeper(name: str, depth: int) -> None:
        async with AsyncSession(engine) as session:
            await order(session, depth)
            if depth < 5:
                await deeper.enqueue_in(session, name, depth + 1)
            await session.commit()

    async with AsyncSession(engine) as session:
        await deeper.enqueue_in(session, "a", 1)
        await session.commit()
    assert len(await names(client)) == 5


async def test_call_with_callbacks_is_refused_as_by_the_table(
    engine: AsyncEngine, client: InlineClient, registry: Registry
) -> None:
    @registry.job()
    async def note(name: str) -> None: ...

    async with AsyncSession(engine) as session:
        with pytest.raises(InvalidOptions):
            await note.options(on_success=note.s()).enqueue_in(session, "a")


async def test_environment_turns_it_on_without_a_client(
    engine: AsyncEngine, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = asyncio.Event()

    @registry.job()
    async def note() -> None:
        ran.set()

    monkeypatch.setenv("EMBARQ_INLINE", "1")
    async with AsyncSession(engine) as session:
        job_id = await note.options(durable=True).enqueue_in(session)
        await session.commit()
    assert ran.is_set()
    async with Client.open("redis://nowhere.invalid") as client:
        assert (await client.find(job_id)).state is State.SUCCEEDED
