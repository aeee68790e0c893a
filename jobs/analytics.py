"""Numbers of hours and days, kept."""

from datetime import datetime, timedelta

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from jobs.lookups import now
from jobs.models import Analytics
from jobs.reports import Numbers, numbers_of
from worker import every, injected, job, schedule


async def _keep(session: AsyncSession, period: str, begins_at: datetime, hours: int) -> Numbers:
    numbers = await numbers_of(session, hours)
    row = insert(Analytics).values(period=period, begins_at=begins_at, numbers=numbers)
    await session.execute(
        row.on_conflict_do_update(index_elements=["period", "begins_at"], set_={"numbers": row.excluded.numbers})
    )
    return numbers


@schedule("0 1 * * *")
@job()
async def generate_daily_analytics(session: AsyncSession = injected) -> Numbers:
    """Keep the numbers of the last day; a second run on that day replaces them."""
    today = now().replace(hour=0, minute=0, second=0, microsecond=0)
    return await _keep(session, "day", today - timedelta(days=1), 24)


@schedule(every(3600))
@job()
async def generate_hourly_analytics(session: AsyncSession = injected) -> Numbers:
    """Keep the numbers of the last hour; a second run in that hour replaces them."""
    return await _keep(session, "hour", now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=1), 1)
