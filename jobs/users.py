"""Users' accounts."""

from typing import Annotated

from pydantic import Field
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from jobs.lookups import Id, get, now
from jobs.models import Credit, Enrolment, Order, Profile, Student, User, UserStats
from worker import injected, job
from worker.database import once_in


@job()
async def create_user_profile(user_id: Id, session: AsyncSession = injected) -> bool:
    """Make a user's profile; a second run finds it."""
    user = await get(session, User, user_id)
    row = insert(Profile).values(user_id=user_id, display_name=user.name)
    made = await session.execute(row.on_conflict_do_nothing().returning(Profile.user_id))
    return made.first() is not None


@job()
async def update_user_stats(user_id: Id, session: AsyncSession = injected) -> dict[str, int]:
    """Compute a user's numbers. A second run computes them again."""
    await get(session, User, user_id)
    mine = Enrolment.student_id == select(Student.id).where(Student.user_id == user_id).scalar_subquery()
    numbers = {
        "enrolments": await session.scalar(select(func.count()).where(mine)) or 0,
        "completed": await session.scalar(select(func.count()).where(mine, Enrolment.completed_at.is_not(None))) or 0,
        "orders": await session.scalar(select(func.count()).where(Order.user_id == user_id)) or 0,
        "credits": await session.scalar(select(func.sum(Credit.amount)).where(Credit.user_id == user_id)) or 0,
    }
    row = insert(UserStats).values(user_id=user_id, updated_at=now(), **numbers)
    changed = {name: row.excluded[name] for name in (*numbers, "updated_at")}
    await session.execute(row.on_conflict_do_update(index_elements=[UserStats.user_id], set_=changed))
    return numbers


@job()
async def add_credits(
    user_id: Id,
    amount: Annotated[int, Field(ge=1, le=1_000_000)],
    transaction_id: Annotated[str, Field(min_length=1, max_length=100)],
    session: AsyncSession = injected,
) -> int:
    """Give credits, only ever once for a transaction id: row and record are one commit. Returns the user's sum."""
    await get(session, User, user_id)
    if await once_in(session, f"credits:{transaction_id}"):
        session.add(Credit(user_id=user_id, amount=amount, transaction_id=transaction_id, given_at=now()))
        await session.flush()
    return await session.scalar(select(func.sum(Credit.amount)).where(Credit.user_id == user_id)) or 0
