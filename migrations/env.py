"""Runs migrations over asyncpg, one process at a time; called by `embarq migrate` with the database's URL."""

import asyncio

from alembic import context
from sqlalchemy import Connection, text

import jobs.models  # noqa: F401  # these three declare tables
import worker.history.tables
import worker.ledger
import worker.outbox  # noqa: F401
from worker.database import make_engine, metadata

LOCK = 7_203_366_012  # an arbitrary number, the same for all that migrate this database


def migrate(connection: Connection) -> None:
    """Hold the lock until the transaction ends, and run what is missing."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    context.configure(connection=connection, target_metadata=metadata, version_table="embarq_version")
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
