"""Numbers of hours and days, kept."""

from datetime import timedelta

from pydantic import AwareDatetime
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from jobs.lookups import now
from jobs.models import Analytics
from jobs.reports import Numbers, numbers_of
from worker import every, injected, job, schedule

HOUR = timedelta(hours=1)
CLOCKS_DIFFER = timedelta(minutes=1)  # Redis' clock fires the job; by this machine's, the hour may not be over yet


async def _keep(session: AsyncSession, period: str, begins_at: AwareDatetime, length: timedelta) -> Numbers:
    numbers = await numbers_of(session, begins_at, begins_at + length)
    row = insert(Analytics).values(period=period, begins_at=begins_at, numbers=numbers)
    await session.execute(
        row.on_conflict_do_update(index_elements=["period", "begins_at"], set_={"numbers": row.excluded.numbers})
    )
    return numbers


@schedule("0 1 * * *")
@job()
async def generate_daily_analytics(session: AsyncSession = injected) -> Numbers:
    """Keep the numbers of yesterday; a second run replaces them."""
    today = now().replace(hour=0, minute=0, second=0, microsecond=0)
    return await _keep(session, "day", today - timedelta(days=1), timedelta(days=1))


@schedule(every(3600))
@job()
async def generate_hourly_analytics(at: AwareDatetime | None = None, session: AsyncSession = injected) -> Numbers:
    """Keep the numbers of the hour before this one, or of the hour that `at` is in; a second run replaces them."""
    within = at or now() + CLOCKS_DIFFER - HOUR
    return await _keep(session, "hour", within.replace(minute=0, second=0, microsecond=0), HOUR)
