"""Jobs that write into the database, and note when it was not there."""

from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from jobs import resources as _resources  # noqa: F401  # provides the session
from tests.chaos.jobs import done, note
from worker import Context, injected, job

TABLE = "CREATE TABLE chaos_marks (id text PRIMARY KEY)"


@job()
async def marked(ctx: Context, session: AsyncSession = injected) -> dict[str, Any]:
    """Leave a row."""
    note(ctx, "start")
    try:
        await session.execute(text("INSERT INTO chaos_marks VALUES (:id) ON CONFLICT DO NOTHING"), {"id": ctx.job_id})
    except BaseException:
        note(ctx, "outage")
        raise
    return done(ctx)
