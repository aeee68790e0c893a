"""Runs migrations over asyncpg, one process at a time; called by `worker.database.migrate` with the database's URL."""

import asyncio

from alembic import context
from sqlalchemy import Connection, text

from worker.database import make_engine
from worker.database.branches import LABEL, VERSIONS, split_branches

LOCK = 7_203_366_012  # an arbitrary number, the same for all that migrate this database


def migrate(connection: Connection) -> None:
    """Hold the lock until the transaction ends, and run what is missing."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    platform = {each.revision for each in context.script.walk_revisions() if LABEL in each.branch_labels}
    split_branches(connection, platform)
    context.configure(connection=connection, version_table=VERSIONS)
    context.run_migrations()


async def connect_and_migrate() -> None:
    """All migrations in one transaction."""
    engine = make_engine(context.config.get_main_option("sqlalchemy.url") or "", size=1)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(migrate)
    finally:
        await engine.dispose()


asyncio.run(connect_and_migrate())
