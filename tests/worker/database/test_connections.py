"""Postgres that goes silent, in front of those who use it: noticed in time, and got over."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.postgres import OwnPostgres, SilentProxy, own_postgres
from tests.support import logged
from worker.database import Database, DatabaseUnavailable, connections, make_engine, ping
from worker.database.connections import JOBS, REQUESTS
from worker.history.reader import History, Query

pytestmark = pytest.mark.xdist_group("a Postgres to freeze")


@pytest.fixture(scope="module")
def postgres() -> Iterator[OwnPostgres]:
    with own_postgres() as server:
        yield server


@pytest.fixture
async def proxy(postgres: OwnPostgres) -> AsyncIterator[SilentProxy]:
    async with SilentProxy(postgres.url).serve() as opened:
        yield opened


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "DOUBT_AFTER", 0.4)
    monkeypatch.setattr(connections, "PROBE_TIMEOUT", 0.6)


async def is_refused_in_time(ask: Callable[[], Awaitable[object]], seconds: float) -> None:
    asked_at = time.monotonic()
    with pytest.raises(DatabaseUnavailable) as caught:
        await ask()
    assert str(caught.value) == "Postgres is not available"
    assert time.monotonic() - asked_at < seconds


async def test_requests_are_answered_within_five_seconds_while_postgres_is_frozen(postgres: OwnPostgres) -> None:
    async with Database.open(postgres.url, size=2, patience=REQUESTS) as database:
        history = History(database.engine)

        async def ask() -> None:
            async with database.session() as session:
                await session.execute(text("SELECT 1"))

        async def first_in_session(asked: asyncio.Event, frozen: asyncio.Event) -> None:
            async with database.session() as session:
                await session.execute(text("SELECT 1"))
                asked.set()
                await frozen.wait()
                await session.execute(text("SELECT 1"))

        asked, frozen = asyncio.Event(), asyncio.Event()
        amid = asyncio.create_task(first_in_session(asked, frozen))
        await asked.wait()
        await ping(database.engine)
        database_uses = (lambda: ping(database.engine), lambda: history.list(Query()), lambda: history.find("x"), ask)
        with postgres.frozen():
            frozen.set()
            await is_refused_in_time(lambda: amid, 5)
            await asyncio.gather(*(is_refused_in_time(use, 5) for use in database_uses))
            await is_refused_in_time(ask, 5)
        await ask()


async def test_pool_is_closed_in_time_while_postgres_is_frozen(postgres: OwnPostgres) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with Database.open(postgres.url, size=4) as database:

            async def use() -> None:
                async with database.session() as session:
                    await session.execute(text("SELECT pg_sleep(0.1)"))

            await asyncio.gather(*(use() for _ in range(4)))
            stack.enter_context(postgres.frozen())
            closing_at = time.monotonic()
        assert time.monotonic() - closing_at < 2


async def test_cancelled_job_leaves_a_frozen_postgres_in_time(postgres: OwnPostgres) -> None:
    async with Database.open(postgres.url, patience=JOBS) as database:

        async def wait() -> None:
            async with database.session() as session:
                await session.execute(text("SELECT pg_sleep(60)"))

        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0.3)
        with postgres.frozen():
            cancelled_at = time.monotonic()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert time.monotonic() - cancelled_at < 3


@pytest.mark.usefixtures("quick")
async def test_frozen_postgres_ends_the_waits_of_sessions_and_is_got_over(postgres: OwnPostgres) -> None:
    async with Database.open(postgres.url, size=3, patience=JOBS) as database:

        async def wait(seconds: float) -> None:
            async with database.session() as session:
                await session.execute(text("SELECT 1"))
                await session.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})

        waits = [asyncio.create_task(wait(60)) for _ in range(3)]
        await asyncio.sleep(0.3)
        with logged("embarq.database") as lines, postgres.frozen():
            for each in waits:
                await is_refused_in_time(lambda each=each: each, 8)  # type: ignore[misc]
        assert "postgres does not answer: connections in use are given up" in [line["event"] for line in lines]
        await wait(0)


@pytest.mark.usefixtures("quick")
async def test_slow_statement_and_idle_session_are_let_be_while_postgres_answers(postgres: OwnPostgres) -> None:
    async with Database.open(postgres.url, patience=JOBS) as database, database.session() as session:
        await session.execute(text("SELECT pg_sleep(2)"))
        await asyncio.sleep(1)
        assert (await session.execute(text("SELECT 7"))).scalar_one() == 7


@pytest.mark.usefixtures("quick")
async def test_network_that_swallows_everything_ends_waits(proxy: SilentProxy) -> None:
    async with Database.open(proxy.url, patience=JOBS) as database:

        async def wait() -> None:
            async with database.session() as session:
                await session.execute(text("SELECT 1"))
                proxy.all_silent = True
                await session.execute(text("SELECT 1"))

        await is_refused_in_time(wait, 8)
        proxy.all_silent = False
        await ping(database.engine)


async def test_idle_connection_that_died_silently_is_replaced_before_use(
    proxy: SilentProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "IDLE_LOOKED_AT", 0.0)
    async with Database.open(proxy.url, patience=REQUESTS) as database:
        await ping(database.engine)
        proxy.silence_open_links()
        async with database.session() as session:
            assert (await session.execute(text("SELECT 7"))).scalar_one() == 7


async def test_kernel_is_asked_to_notice_dead_peers(proxy: SilentProxy) -> None:
    engine = make_engine(proxy.url)
    async with engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        found = driver._transport.get_extra_info("socket")
        assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
            assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
    await engine.dispose()


async def test_what_is_wrong_with_a_statement_is_no_outage(fresh_database: AsyncEngine) -> None:
    database = Database(fresh_database)
    with pytest.raises(DBAPIError, match="division by zero"):
        async with database.session() as session:
            await session.execute(text("SELECT 1/0"))
    with pytest.raises(DBAPIError, match="does not exist"):
        await History(fresh_database).list(Query())


async def test_refusals_tell_clients_nothing_of_the_driver() -> None:
    async with Database.open("postgresql://someone:secret@127.0.0.1:1/shop") as database:
        with logged("embarq.database") as lines:
            await is_refused_in_time(lambda: ping(database.engine), 5)
        assert "127.0.0.1" in lines[0]["reason"]
