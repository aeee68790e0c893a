"""How far students are."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from jobs.lookups import Id, Missing, now
from jobs.models import Enrolment, Lesson, LessonProgress
from worker import injected, job, schedule


@job()
async def recalculate_course_progress(student_id: Id, course_id: Id, session: AsyncSession = injected) -> int:
    """Compute a student's percentage of a course from the lessons that are done. A second run computes it again."""
    enrolment = await session.scalar(
        select(Enrolment).where(Enrolment.student_id == student_id, Enrolment.course_id == course_id).with_for_update()
    )
    if enrolment is None:
        raise Missing(f"student {student_id} is not in course {course_id}")
    lessons = await session.scalar(select(func.count()).where(Lesson.course_id == course_id)) or 0
    done = (
        await session.scalar(
            select(func.count())
            .select_from(LessonProgress)
            .join(Lesson, Lesson.id == LessonProgress.lesson_id)
            .where(LessonProgress.enrolment_id == enrolment.id, Lesson.course_id == course_id)
        )
        or 0
    )
    enrolment.percent = 100 * done // lessons if lessons else 0
    return enrolment.percent


@schedule("0 2 * * *")
@job()
async def cleanup_stale_progress(
    days: Annotated[int, Field(ge=1, le=3650)] = 90, session: AsyncSession = injected
) -> int:
    """Mark enrolments without activity for `days`; how many there were. A second run finds none."""
    before = now() - timedelta(days=days)
    touched = func.coalesce(Enrolment.active_at, Enrolment.enrolled_at)
    unfinished = update(Enrolment).where(touched < before, Enrolment.completed_at.is_(None), Enrolment.stale.is_(False))
    marked = await session.execute(unfinished.values(stale=True).returning(Enrolment.id))
    return len(marked.all())
