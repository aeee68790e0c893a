"""Jobs of the tests of a second terminal: one that asks for a session, and one that does not."""

from collections.abc import AsyncIterator

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from worker import Context, injected, job, resource
from worker.database import Database
from worker.settings import Settings


@resource
async def database() -> AsyncIterator[Database]:
    async with Database.open(Settings.load().database_url) as opened:
        yield opened


@resource
async def session(ctx: Context) -> AsyncIterator[AsyncSession]:
    async with ctx.resource(Database).session() as opened:
        yield opened


@job(queue="with-session")
async def ask_database(session: AsyncSession = injected) -> int:
    """Counts a table of ours: the private Postgres has them all."""
    return await session.scalar(text("SELECT 1 + count(*) FROM embarq_outbox")) or 0


@job()
async def add(one: int, other: int) -> int:
    return one + other
