"""Courses and those who take them."""

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from jobs.certificates import generate_certificate
from jobs.emails import send_enrollment_confirmation
from jobs.lookups import Missing, get, now
from jobs.models import Course, Enrolment, Student


async def enrol(session: AsyncSession, student_id: int, course_id: int) -> bool:
    """Put a student into a course; the confirmation follows the commit. False when the student was in it.

    Raises:
        Missing: the student or the course does not exist.
    """
    await get(session, Student, student_id)
    await get(session, Course, course_id)
    row = insert(Enrolment).values(student_id=student_id, course_id=course_id, active_at=now())
    made = (await session.execute(row.on_conflict_do_nothing().returning(Enrolment.id))).first()
    if made is not None:
        await send_enrollment_confirmation.enqueue_in(session, student_id, course_id)
    return made is not None


async def complete_course(session: AsyncSession, student_id: int, course_id: int) -> bool:
    """Record that a student has completed a course; the certificate follows the commit. False when it was before.

    Raises:
        Missing: the student is not in the course.
    """
    enrolment = await session.scalar(
        select(Enrolment).where(Enrolment.student_id == student_id, Enrolment.course_id == course_id).with_for_update()
    )
    if enrolment is None:
        raise Missing(f"student {student_id} is not in course {course_id}")
    if enrolment.completed_at is not None:
        return False
    enrolment.completed_at, enrolment.percent = now(), 100
    await generate_certificate.enqueue_in(session, student_id, course_id)
    return True
