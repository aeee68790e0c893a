"""How relays hear of commits: soon, seldom, and without a word inside the transactions."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from tests.flow.outbox_jobs import settle
from tests.postgres import SilentProxy, own_postgres
from tests.support import Kit, eventually, logged
from worker.database import Database, make_engine
from worker.database import relay as relay_module
from worker.database.connections import Patience
from worker.database.migrate import migrate
from worker.database.notices import CHANNEL
from worker.database.relay import Relay


@asynccontextmanager
async def hearing(engine: AsyncEngine) -> AsyncIterator[list[str]]:
    """The notices that come while the block runs."""
    heard: list[str] = []
    async with engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        await driver.add_listener(CHANNEL, lambda *_: heard.append("notice"))
        yield heard
        await connection.invalidate()


@contextmanager
def statements(engine: AsyncEngine) -> Iterator[list[tuple[Any, str]]]:
    """Every statement, with the connection that it ran on."""
    seen: list[tuple[Any, str]] = []

    def note(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append((connection, statement.split(maxsplit=1)[0]))

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine.sync_engine, "before_cursor_execute", note)


async def test_many_commits_share_notices_and_none_is_part_of_one(migrated: AsyncEngine) -> None:
    database = Database(migrated)

    async def business(first: int) -> None:
        for n in range(first, 200, 8):
            async with database.session() as session:
                await settle.enqueue_in(session, n)

    async with hearing(migrated) as heard:
        with statements(migrated) as seen:
            await asyncio.gather(*(business(first) for first in range(8)))
            await eventually(lambda: _any(heard), 5)
        writers = {connection for connection, verb in seen if verb == "INSERT"}
        assert len([verb for _, verb in seen if verb == "INSERT"]) == 200
        assert not [verb for connection, verb in seen if verb == "NOTIFY" and connection in writers]
        assert 1 <= len([verb for _, verb in seen if verb == "NOTIFY"]) < 100


async def _any(heard: list[str]) -> bool:
    return bool(heard)


async def test_notice_comes_after_the_commit_and_never_after_a_rollback(migrated: AsyncEngine) -> None:
    database = Database(migrated)
    async with hearing(migrated) as heard:
        async with AsyncSession(migrated) as session:
            await settle.enqueue_in(session, 1)
            await session.rollback()
            await session.execute(text("SELECT 1"))
            await session.commit()
        async with database.session() as session, session.begin_nested():
            await settle.enqueue_in(session, 2)
            await asyncio.sleep(0.1)
        async with migrated.connect() as connection:
            await settle.enqueue_in(connection, 3)
            await connection.rollback()
        await eventually(lambda: _any(heard), 5)  # of the second
        await asyncio.sleep(0.1)
        assert len(heard) == 1
        async with migrated.begin() as connection:
            await settle.enqueue_in(connection, 4)
        await eventually(lambda: _more_than_one(heard), 5)


async def _more_than_one(heard: list[str]) -> bool:
    return len(heard) > 1


async def test_relay_hears_within_milliseconds(
    kit: Kit, migrated: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "LONGEST_SLEEP", 30.0)
    relay = asyncio.create_task(Relay(migrated, kit.client.queue_store).run())
    try:
        await asyncio.sleep(0.5)  # its listener hears, and it sleeps
        async with Database(migrated).session() as session:
            await settle.options(queue=kit.queue).enqueue_in(session, 1)

        async def queued() -> bool:
            return bool(await kit.client.redis.zcard(kit.queue_key) == 1)

        await eventually(queued, 5)
    finally:
        relay.cancel()
        await asyncio.wait([relay])


async def test_relay_notices_that_its_ear_is_deaf(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "LONGEST_SLEEP", 30.0)
    monkeypatch.setattr(relay_module, "LISTENER_TRIED_EVERY", 0.3)
    monkeypatch.setattr(relay_module, "LISTENER_ANSWERS_WITHIN", 0.3)
    with own_postgres() as server:
        await asyncio.to_thread(migrate, server.url)
        async with SilentProxy(server.url).serve() as proxy:
            engine = make_engine(proxy.url, patience=Patience(pool=5, look=0.3))
            relay = asyncio.create_task(Relay(engine, kit.client.queue_store).run())
            with logged("embarq.worker") as lines:
                await asyncio.sleep(0.5)
                proxy.silence_open_links()

                async def told() -> bool:
                    return any(line["event"] == "the database is unavailable" for line in lines)

                await eventually(told, 10)
            await asyncio.sleep(2)  # it listens anew

            async with Database(engine).session() as session:
                await settle.options(queue=kit.queue).enqueue_in(session, 1)

            async def queued() -> bool:
                return bool(await kit.client.redis.zcard(kit.queue_key) == 1)

            await eventually(queued, 5)
            relay.cancel()
            await asyncio.wait([relay])
            await engine.dispose()
