"""Notes in users' inboxes."""

from typing import Annotated

from pydantic import Field
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from jobs.fan_out import fan_out
from jobs.lookups import Id
from jobs.models import Notification, User
from worker import Context, injected, job

Title = Annotated[str, Field(min_length=1, max_length=200)]
Text = Annotated[str, Field(min_length=1, max_length=1000)]


async def notify(session: AsyncSession, user_id: int, title: str, message: str, key: str) -> bool:
    """Put a note into a user's inbox, once under its key; False when it was there, or there is no such user."""
    if await session.get(User, user_id) is None:
        return False
    row = insert(Notification).values(user_id=user_id, title=title, message=message, key=key)
    made = await session.execute(row.on_conflict_do_nothing().returning(Notification.id))
    return made.first() is not None


@job(queue="notifications")
async def send_notification(
    ctx: Context, user_id: Id, message: Text, title: Title = "News", session: AsyncSession = injected
) -> bool:
    """Put a note into one inbox. A second run of the job adds nothing."""
    return await notify(session, user_id, title, message, f"job:{ctx.job_id}")


@job(queue="notifications")
async def send_bulk_notifications(
    ctx: Context,
    user_ids: Annotated[list[Id], Field(min_length=1, max_length=10_000)],
    title: Title,
    message: Text,
    session: AsyncSession = injected,
) -> int:
    """Put a note into many inboxes, all or none; how many were new. A second run adds nothing."""
    added = 0
    for place, user_id in enumerate(user_ids, start=1):
        added += await notify(session, user_id, title, message, f"job:{ctx.job_id}:{place}")
        ctx.progress(place, len(user_ids))
    return added


@job(queue="notifications")
async def broadcast(ctx: Context, title: Title, message: Text, session: AsyncSession = injected) -> list[str]:
    """Notify all active users, in groups of jobs; the groups' ids, which a second run finds again."""
    ids = (await session.scalars(select(User.id).where(User.is_active).order_by(User.id))).all()
    members = (send_notification.s(user_id=user_id, title=title, message=message) for user_id in ids)
    return await fan_out(members, f"{ctx.job_id}.notes")
