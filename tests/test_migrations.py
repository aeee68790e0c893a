"""The database's tables come, go, and match what the code declares; databases from before the branches go on."""

import asyncio
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

import jobs.models  # noqa: F401  # these three declare tables
import worker.history.tables
import worker.ledger
import worker.outbox  # noqa: F401
from tests.support import MIGRATIONS
from worker import EmbarqError
from worker.database import metadata
from worker.database.migrate import migrate

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


async def test_database_of_a_project_that_is_not_at_hand_is_told(fresh_database: AsyncEngine) -> None:
    await go(fresh_database, *MIGRATIONS)
    with pytest.raises(EmbarqError, match="0005"):
        await go(fresh_database)
