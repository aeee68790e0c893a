"""Runs migrations over asyncpg, one process at a time; called by `worker.database.migrate` with the database's URL."""

import asyncio
from collections.abc import Set

from alembic import context
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from worker.core.errors import EmbarqError
from worker.database import make_engine
from worker.database.branches import LABEL, VERSIONS, split_branches

LOCK = 7_203_366_012  # the key of an advisory lock: arbitrary, but the same in every process and release


def migrate(connection: Connection) -> None:
    """Hold the lock until the transaction ends, and run what is missing."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    revisions = list(context.script.walk_revisions())
    refuse_newer(connection, {each.revision for each in revisions})
    split_branches(connection, {each.revision for each in revisions if LABEL in each.branch_labels})
    context.configure(connection=connection, version_table=VERSIONS)
    context.run_migrations()


def refuse_newer(connection: Connection, known: Set[str]) -> None:
    """Refuse a database with revisions that are unknown here: its tables may be different from what we expect."""
    seen = MigrationContext.configure(connection, opts={"version_table": VERSIONS}).get_current_heads()
    if unknown := sorted(set(seen) - known):
        raise EmbarqError(
            f"a newer release, or another project, has migrated this database: revision {', '.join(unknown)} is not"
            " known here; undo it there with `embarq migrate --back-to`, start this one without migrating, or set"
            " another DATABASE_URL"
        )


async def connect_and_migrate() -> None:
    """All migrations in one transaction."""
    engine = make_engine(context.config.get_main_option("sqlalchemy.url") or "", size=1)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(migrate)
    finally:
        await engine.dispose()


asyncio.run(connect_and_migrate())
