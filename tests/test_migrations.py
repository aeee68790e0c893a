"""The database's tables come, go, and match what the code declares; databases from before the branches go on."""

import asyncio
import uuid
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

import jobs.models  # noqa: F401  # these four declare tables
import worker.database.idempotency
import worker.database.outbox
import worker.history.tables  # noqa: F401
from tests.support import MIGRATIONS
from worker import EmbarqError
from worker.database import metadata
from worker.database.migrate import Revisions, migrate

TABLES = {
    "embarq_once": "0001",
    "embarq_outbox": "0002",
    "lessons": "0003",
    "embarq_jobs": "0004",
    "file_parts": "0005",
}


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"version_table": "embarq_version"})
    return list(compare_metadata(context, metadata))


async def seen(database: AsyncEngine) -> set[str]:
    """The revisions that the database names, the newest of each branch."""
    async with database.connect() as connection:
        return set((await connection.execute(text("SELECT version_num FROM embarq_version"))).scalars())


async def is_there(database: AsyncEngine, table: str) -> bool:
    async with database.connect() as connection:
        found = await connection.execute(text("SELECT to_regclass(:table) IS NOT NULL"), {"table": table})
        return bool(found.scalar_one())


async def go(database: AsyncEngine, *folders: Path, back_to: str | None = None) -> None:
    await asyncio.to_thread(migrate, str(database.url), folders, back_to=back_to)


async def test_tables_are_as_declared(migrated: AsyncEngine) -> None:
    async with migrated.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_up_and_down_again(fresh_database: AsyncEngine) -> None:
    for back_to, there in ((None, True), ("base", False), (None, True)):
        await go(fresh_database, *MIGRATIONS, back_to=back_to)
        for table in TABLES:
            assert await is_there(fresh_database, table) is there


async def test_engine_alone_makes_no_table_of_the_platform(fresh_database: AsyncEngine) -> None:
    await go(fresh_database)
    assert await is_there(fresh_database, "embarq_jobs")
    assert not await is_there(fresh_database, "lessons")
    await go(fresh_database, *MIGRATIONS)
    assert await is_there(fresh_database, "lessons")


@pytest.mark.parametrize("newest", ["0001", "0002", "0003", "0004"])
async def test_database_from_before_the_branches_goes_on(fresh_database: AsyncEngine, newest: str) -> None:
    """Made as the one line of revisions made it: the tables up to a revision, and that one's name alone."""
    await go(fresh_database, *MIGRATIONS)
    await go(fresh_database, *MIGRATIONS, back_to="0003")  # of the platform's branch
    if newest < "0004":
        await go(fresh_database, *MIGRATIONS, back_to="0002")  # of the engine's branch
    if newest < "0003":
        await go(fresh_database, *MIGRATIONS, back_to="platform@base")
    if newest < "0002":
        await go(fresh_database, *MIGRATIONS, back_to="0001")
    async with fresh_database.begin() as connection:
        await connection.execute(text("DELETE FROM embarq_version"))
        await connection.execute(text("INSERT INTO embarq_version VALUES (:newest)"), {"newest": newest})
    for table, made_by in TABLES.items():
        assert await is_there(fresh_database, table) is (made_by <= newest)
    for _ in range(2):
        await go(fresh_database, *MIGRATIONS)
        assert await seen(fresh_database) == {"0004", "0005"}
        for table in TABLES:
            assert await is_there(fresh_database, table)


async def test_platform_is_found_by_a_later_engine_that_was_migrated_alone(
    fresh_database: AsyncEngine, tmp_path: Path
) -> None:
    """A database of the one line, to which an engine with one revision more came before the platform."""
    later = write_revision(tmp_path / "later.py", "embarq_0006", "0004")
    await go(fresh_database, *MIGRATIONS)
    await go(fresh_database, *MIGRATIONS, back_to="0003")  # of the platform's branch
    async with fresh_database.begin() as connection:
        await connection.execute(text("DELETE FROM embarq_version WHERE version_num = '0003'"))
    await go(fresh_database, later.parent)
    assert await seen(fresh_database) == {"embarq_0006"}
    for _ in range(2):
        await go(fresh_database, later.parent, *MIGRATIONS)
        assert await seen(fresh_database) == {"embarq_0006", "0005"}


def write_revision(file: Path, name: str, after: str | None = None) -> Path:
    """A revision that does nothing."""
    declared = f"revision: str = {name!r}\ndown_revision = {after!r}\n"
    file.write_text(f"{declared}def upgrade() -> None: ...\ndef downgrade() -> None: ...\n")
    return file


def test_new_revisions_of_the_engine_take_no_name_that_projects_use() -> None:
    new = Revisions.of(()).all - {"0001", "0002", "0004"}
    assert all(name.startswith("embarq_") for name in new), new


@pytest.mark.parametrize(("first", "second"), [("0001", "users_2"), ("users", "0004"), ("users", "users")])
async def test_revision_with_a_name_that_is_taken_is_refused_by_its_file(
    fresh_database: AsyncEngine, tmp_path: Path, first: str, second: str
) -> None:
    write_revision(tmp_path / "a.py", first)
    write_revision(tmp_path / "b.py", second, first)
    wrong = tmp_path / ("a.py" if first == "0001" else "b.py")
    for look in (lambda: Revisions.of([tmp_path]), lambda: migrate(str(fresh_database.url), [tmp_path])):
        with pytest.raises(EmbarqError) as told:
            await asyncio.to_thread(look)
        assert str(told.value).startswith(f"{wrong}: the revision ")
        assert "\n" not in str(told.value)
    assert not await is_there(fresh_database, "embarq_once")


async def test_revisions_of_a_project_stand_beside_the_engines(fresh_database: AsyncEngine, tmp_path: Path) -> None:
    write_revision(tmp_path / "a.py", "users")
    await go(fresh_database, tmp_path, tmp_path)
    assert await seen(fresh_database) == {"0004", "users"}


async def test_database_of_a_project_that_is_not_at_hand_is_told(fresh_database: AsyncEngine) -> None:
    await go(fresh_database, *MIGRATIONS)
    for back_to in (None, "base"):
        with pytest.raises(EmbarqError, match=r"a newer release, or another .* revision 0005 is not known here"):
            await go(fresh_database, back_to=back_to)
        assert await is_there(fresh_database, "embarq_jobs")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("sslmode=require", "DATABASE_URL cannot be used: .*'sslmode'; write ssl=require in place of sslmode=require"),
        ("nonsense=1", "DATABASE_URL cannot be used: .*'nonsense'"),
        ("ssl=nonsense", "DATABASE_URL cannot be used: .*must be one of: disable, allow, prefer, require"),
    ],
)
async def test_parameter_of_the_url_that_nobody_knows_is_told_in_one_line(query: str, said: str) -> None:
    with pytest.raises(EmbarqError, match=said) as caught:
        await asyncio.to_thread(migrate, f"postgres://nobody@127.0.0.1:1/nothing?{query}")
    assert "\n" not in str(caught.value)


async def test_role_that_may_not_make_tables_is_told_in_one_line(fresh_database: AsyncEngine) -> None:
    role = f"poor_{uuid.uuid4().hex[:12]}"
    async with fresh_database.begin() as connection:
        await connection.execute(text("REVOKE CREATE ON SCHEMA public FROM PUBLIC"))
        await connection.execute(text(f"CREATE ROLE {role} LOGIN"))
    url = fresh_database.url.set(username=role).render_as_string(hide_password=False)
    try:
        with pytest.raises(EmbarqError, match="permission denied for schema public") as caught:
            await asyncio.to_thread(migrate, url)
        assert "\n" not in str(caught.value)
    finally:
        async with fresh_database.begin() as connection:
            await connection.execute(text(f"DROP ROLE {role}"))
