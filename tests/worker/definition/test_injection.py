import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from tests.support import Kit
from worker import Context, Registry, State, injected
from worker.core.errors import DefinitionError, UnknownResource
from worker.database import Database


class Counter:
    """A resource of a worker."""

    def __init__(self) -> None:
        self.value = 0


@pytest.fixture
def counter(kit: Kit) -> Counter:
    made = Counter()

    @kit.registry.resource
    async def counter() -> AsyncIterator[Counter]:
        yield made

    return made


@pytest.fixture
async def database(kit: Kit, fresh_database: AsyncEngine) -> Database:
    async with fresh_database.begin() as connection:
        await connection.execute(text("CREATE TABLE notes (value int CHECK (value > 0))"))
    made = Database(fresh_database)

    @kit.registry.resource
    async def session(_ctx: Context) -> AsyncIterator[AsyncSession]:
        async with made.session() as opened:
            yield opened

    return made


async def notes(database: Database) -> list[int]:
    async with database.session() as session:
        return list((await session.execute(text("SELECT value FROM notes ORDER BY value"))).scalars())


async def test_resources_are_injected_by_type(kit: Kit, counter: Counter) -> None:
    @kit.registry.job()
    async def coroutine(ctx: Context, by: int, shared: Counter = injected) -> int:
        shared.value += by
        return shared.value

    @kit.registry.job()
    def thread(shared: Counter, by: int) -> int:
        shared.value += by
        return shared.value

    first = await kit.enqueue(coroutine, {"by": 2})
    await kit.drain()
    second = await kit.enqueue(thread, {"by": 3})
    await kit.drain()
    assert ((await first.job()).result, (await second.job()).result) == (2, 5)
    assert coroutine.schema.names == ["by"]
    assert "shared" not in coroutine.schema.json_schema()["properties"]


async def test_direct_call_takes_a_stand_in(kit: Kit, counter: Counter) -> None:
    @kit.registry.job()
    async def work(shared: Counter = injected) -> int:
        return shared.value

    own = Counter()
    own.value = 9
    assert await work(shared=own) == 9
    with pytest.raises(UnknownResource, match="shared="):
        await work()


async def test_session_commits_on_success_and_rolls_back_on_error(kit: Kit, database: Database) -> None:
    @kit.registry.job()
    async def note(value: int, well: bool, session: AsyncSession = injected) -> None:
        await session.execute(text("INSERT INTO notes VALUES (:value)"), {"value": value})
        if not well:
            raise ValueError("after the insert")

    good = await kit.enqueue(note, {"value": 1, "well": True})
    bad = await kit.enqueue(note, {"value": 2, "well": False})
    await kit.drain()
    assert (await good.job()).state is State.SUCCEEDED
    assert (await bad.job()).state is State.FAILED
    assert await notes(database) == [1]


async def test_cancelled_and_timed_out_jobs_leave_nothing(kit: Kit, database: Database) -> None:
    @kit.registry.job(timeout=0.3, max_tries=1)
    async def note(value: int, session: AsyncSession = injected) -> None:
        await session.execute(text("INSERT INTO notes VALUES (:value)"), {"value": value})
        await asyncio.sleep(10)

    handle = await kit.enqueue(note, {"value": 1})
    await kit.drain()
    assert (await handle.job()).state is State.FAILED
    assert await notes(database) == []


async def test_commit_that_fails_fails_the_job(kit: Kit, database: Database) -> None:
    async with database.engine.begin() as connection:
        await connection.execute(text("CREATE TABLE late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)"))

    @kit.registry.job(max_tries=1)
    async def twice(session: AsyncSession = injected) -> str:
        await session.execute(text("INSERT INTO late VALUES (1), (1)"))
        return "done"

    handle = await kit.enqueue(twice)
    await kit.drain()
    job = await handle.job()
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error.type == "IntegrityError"


async def test_a_hundred_jobs_share_the_pool(kit: Kit, database: Database) -> None:
    @kit.registry.job()
    async def note(value: int, session: AsyncSession = injected) -> None:
        await session.execute(text("SELECT pg_sleep(0.02)"))
        await session.execute(text("INSERT INTO notes VALUES (:value)"), {"value": value})

    for value in range(1, 101):
        await kit.enqueue(note, {"value": value})
    await kit.drain()
    assert await notes(database) == list(range(1, 101))


async def test_without_a_database_only_its_jobs_fail(kit: Kit) -> None:
    async with Database.open(None) as nowhere:

        @kit.registry.resource
        async def session(_ctx: Context) -> AsyncIterator[AsyncSession]:
            async with nowhere.session() as opened:
                yield opened

        @kit.registry.job()
        async def needs(session: AsyncSession = injected) -> None: ...

        @kit.registry.job()
        async def free() -> None: ...

        first, second = await kit.enqueue(needs), await kit.enqueue(free)
        await kit.drain()
    job = await first.job()
    assert job.error is not None
    assert job.error.message == "DATABASE_URL must be set for this"
    assert (await second.job()).state is State.SUCCEEDED


def test_plain_function_cannot_have_a_session() -> None:
    registry = Registry()

    @registry.resource
    async def session(_ctx: Context) -> AsyncIterator[AsyncSession]:
        raise NotImplementedError
        yield

    @registry.job()
    def work(session: AsyncSession = injected) -> None: ...

    with pytest.raises(DefinitionError, match="must be an `async def` to be given 'session'"):
        _ = work.schema
