"""Outages of what jobs are given: tried again by themselves, at first without using up a try."""

import asyncio
import errno
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from jobs.mail import Email, Mailer, MailServerAway
from jobs.storage import FileStore, Folder, StoreUnavailable, whole
from tests.postgres import OwnPostgres, SilentProxy, own_postgres
from tests.support import Kit, free_port
from worker import Context, ResourceUnavailable, State, injected
from worker.database import Database
from worker.execution import outages
from worker.execution.outages import Outages


@pytest.fixture(scope="module")
def postgres() -> Iterator[OwnPostgres]:
    with own_postgres() as server:
        yield server


@pytest.fixture
async def proxy(postgres: OwnPostgres) -> AsyncIterator[SilentProxy]:
    async with SilentProxy(postgres.url).serve() as opened:
        yield opened


@pytest.fixture
async def database(kit: Kit, proxy: SilentProxy) -> AsyncIterator[Database]:
    async with Database.open(proxy.url) as opened:

        @kit.registry.resource
        async def session(_ctx: Context) -> AsyncIterator[AsyncSession]:
            async with opened.session() as given:
                yield given

        async with opened.session() as own:
            await own.execute(text("CREATE TABLE IF NOT EXISTS done (n int PRIMARY KEY)"))
            await own.execute(text("TRUNCATE done"))
        yield opened


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "SHORTEST_PAUSE", 0.05)
    monkeypatch.setattr(outages, "LONGEST_PAUSE", 0.3)


@pytest.mark.usefixtures("quick")
async def test_session_jobs_outlive_an_outage_without_using_up_tries(
    kit: Kit, database: Database, proxy: SilentProxy
) -> None:
    begun = asyncio.Event()

    @kit.registry.job(max_tries=1)
    async def note(n: int, session: AsyncSession = injected) -> None:
        await session.execute(text("INSERT INTO done VALUES (:n) ON CONFLICT DO NOTHING"), {"n": n})
        begun.set()
        await session.execute(text("SELECT pg_sleep(0.2)"))

    handles = [await kit.enqueue(note, {"n": n}) for n in range(60)]
    async with kit.worker():
        await begun.wait()
        proxy.refuses = True
        proxy.cut_open_links()
        await asyncio.sleep(2)
        assert not [each for each in handles if (await each.job()).state is State.FAILED]
        proxy.refuses = False
        jobs = [await kit.ended(each.id, 30) for each in handles]
    assert {job.state for job in jobs} == {State.SUCCEEDED}
    assert {job.tries for job in jobs} == {1}
    async with database.session() as session:
        assert (await session.execute(text("SELECT count(*) FROM done"))).scalar_one() == 60


async def test_outage_that_lasts_counts_and_is_tried_again_where_no_policy_says_so(
    kit: Kit, database: Database, proxy: SilentProxy
) -> None:
    @kit.registry.job(max_tries=2)
    async def note(session: AsyncSession = injected) -> None:
        await session.execute(text("SELECT 1"))

    @kit.registry.job(max_tries=2)
    def file_away() -> None:
        raise ResourceUnavailable("the archive is away")

    proxy.refuses = True
    proxy.cut_open_links()
    handles = [await kit.enqueue(note), await kit.enqueue(file_away)]
    async with kit.worker(outage_patience=0):
        jobs = [await kit.ended(each.id) for each in handles]
    assert [job.state for job in jobs] == [State.FAILED] * 2
    assert [job.tries for job in jobs] == [2, 2]
    assert [job.error.type for job in jobs if job.error] == ["DatabaseUnavailable", "ResourceUnavailable"]
    assert jobs[0].error is not None
    assert jobs[0].error.message == "Postgres is not available"
    assert database.is_set


def test_patience_is_a_jobs_own_and_grows_its_pauses() -> None:
    now = 0.0
    seen = Outages(100.0, lambda: now)
    assert [seen.pause("a", 0.0) for _ in range(7)] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert seen.pause("b", 1.0) == 0.8
    now = 99.0
    assert seen.pause("a", 0.0) == 30.0
    now = 100.0
    assert seen.pause("a") is None
    assert seen.pause("a") is None
    assert seen.pause("c", 0.0) == 1.0
    seen.forget("a")
    assert seen.pause("a", 0.0) == 1.0


async def test_mail_server_that_does_not_answer_is_an_outage(database: Database) -> None:
    mailer = Mailer(f"smtp://127.0.0.1:{free_port()}", "Platform <platform@example.com>")
    email = Email("ada@example.com", "Hello", "welcome", {"name": "Ada"}, "key")
    with pytest.raises(MailServerAway) as caught:
        await mailer._hand_over(mailer._message(email))
    assert isinstance(caught.value, ResourceUnavailable)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk is stood in for by /dev/full")
async def test_full_disk_is_an_outage_and_leaves_nothing(
    tmp_path: Path, migrated: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = uuid.uuid4()
    monkeypatch.setattr(uuid, "uuid4", lambda: place)
    folder = tmp_path / "made" / f"{datetime.now(UTC):%Y-%m}"
    folder.mkdir(parents=True)
    (folder / f"{place.hex}.part").symlink_to("/dev/full")
    async with Database(migrated).session() as session:
        with pytest.raises(StoreUnavailable, match=os.strerror(errno.ENOSPC)):
            await FileStore(Folder(tmp_path), b"secret").keep(session, "a.txt", "text/plain", whole(b"x" * 100_000))
    assert list(folder.iterdir()) == []
