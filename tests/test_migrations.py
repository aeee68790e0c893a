"""The database's tables come, go, and match what the code declares."""

import asyncio

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

import jobs.models  # noqa: F401  # these three declare tables
import worker.history.tables
import worker.ledger
import worker.outbox  # noqa: F401
from worker.cli.migrate import migrate
from worker.database import metadata


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"version_table": "embarq_version"})
    return list(compare_metadata(context, metadata))


async def test_tables_are_as_declared(migrated: AsyncEngine) -> None:
    async with migrated.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_up_and_down_again(fresh_database: AsyncEngine) -> None:
    url = str(fresh_database.url)
    for back_to, tables in ((None, True), ("base", False), (None, True)):
        await asyncio.to_thread(migrate, url, back_to=back_to)
        async with fresh_database.connect() as connection:
            there = await connection.execute(text("SELECT to_regclass('embarq_once') IS NOT NULL"))
            assert there.scalar_one() is tables
