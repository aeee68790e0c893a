"""Rows by their keys, for jobs that cannot continue without them."""

from datetime import UTC, datetime
from typing import Annotated, TypeVar

from pydantic import Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from jobs.models import Student, Table, User
from worker import Permanent

T = TypeVar("T", bound=Table)

Id = Annotated[int, Field(ge=1, le=2**31 - 1)]


class Missing(Permanent):
    """A row that the job is about does not exist; another try would not find it either."""


async def get(session: AsyncSession, kind: type[T], key: int) -> T:
    """The row of this key.

    Raises:
        Missing: there is none.
    """
    found = await session.get(kind, key)
    if found is None:
        raise Missing(f"no {kind.__name__.lower()} has the id {key}")
    return found


async def user_of(session: AsyncSession, student_id: int) -> User:
    """The user behind a student.

    Raises:
        Missing: there is no such student.
    """
    found = await session.scalar(select(User).join(Student, Student.user_id == User.id).where(Student.id == student_id))
    if found is None:
        raise Missing(f"no student has the id {student_id}")
    return found


def now() -> datetime:
    """The time, aware."""
    return datetime.now(UTC)


def day(moment: datetime) -> str:
    """A date as people read it."""
    return f"{moment.day} {moment:%B %Y}"


def money(cents: int) -> str:
    """Cents as people read them."""
    return f"{cents // 100:,}.{cents % 100:02} €"
