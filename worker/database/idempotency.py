"""Effects that happen once, recorded in the same database transaction as the effect itself."""

from sqlalchemy import Column, DateTime, Table, Text, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from worker.core.context import current_context
from worker.database.database import metadata

once_table = Table(
    "embarq_once",
    metadata,
    Column("key", Text, primary_key=True),
    Column("job_id", Text),
    Column("recorded_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)


async def once_in(session: AsyncSession | AsyncConnection, key: str) -> bool:
    """Whether the caller is the first ever to act under this key; to be called in the effect's own transaction.

        if await once_in(session, f"credits:{transaction_id}"):
            account.credits += amount

    Exactly one transaction that commits gets True. Effect and record are committed together or not at all, so a job
    that is killed anywhere and run again adds nothing twice and loses nothing. A second caller waits until the first
    transaction has ended (Postgres' insert waits for a conflicting one): if that rolled back, it gets True. This holds
    for effects in this database only.
    """
    context = current_context()
    row = insert(once_table).values(key=key, job_id=context.job_id if context else None)
    made = await session.execute(row.on_conflict_do_nothing().returning(once_table.c.key))
    return made.scalar_one_or_none() is not None
