"""Certificates of courses that were completed."""

from typing import Annotated

from pydantic import Field
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from jobs import mail
from jobs.lookups import Id, day, get, now, user_of
from jobs.mail import Attachment, Email, Mailer
from jobs.models import Certificate, Course, Enrolment, StoredFile
from jobs.pdf import keep_pdf
from jobs.storage import FileStore
from worker import injected, job


@job(queue="certificates", max_tries=8, retry=mail.WHILE_AWAY)
async def generate_certificate(
    student_id: Id,
    course_id: Id,
    session: AsyncSession = injected,
    store: FileStore = injected,
    mailer: Mailer = injected,
) -> str | None:
    """Make a student's certificate and mail it; its number, or None when the course is not completed.

    A second run finds the certificate, and mails it only if that had not been recorded. Row, number and record of the
    e-mail are one commit; two runs at once are kept apart by a lock for the pair.
    """
    await session.execute(
        text("SELECT pg_advisory_xact_lock(:student, :course)"), {"student": student_id, "course": course_id}
    )
    enrolment = await session.scalar(
        select(Enrolment).where(Enrolment.student_id == student_id, Enrolment.course_id == course_id)
    )
    if enrolment is None or enrolment.completed_at is None:
        return None
    user, course = await user_of(session, student_id), await get(session, Course, course_id)
    certificate = await session.scalar(
        select(Certificate).where(
            Certificate.student_id == student_id, Certificate.course_id == course_id, Certificate.revoked_at.is_(None)
        )
    )
    if certificate is None:
        certificate = await _issue(session, store, student_id, course, user.name)
    file = await get(session, StoredFile, certificate.file_id or 0)
    values = {"name": user.name, "course": course.title, "number": certificate.number}
    attached = (Attachment(file.name, file.content_type, await store.read(session, file)),)
    subject, key = f"Your certificate: {course.title}", f"certificate:{certificate.number}"
    await mailer.send(session, Email(user.email, subject, "certificate", values, key, attached))
    return certificate.number


async def _issue(session: AsyncSession, store: FileStore, student_id: int, course: Course, name: str) -> Certificate:
    issued = now()
    certificate = Certificate(number=f"pending:{student_id}:{course.id}", student_id=student_id, course_id=course.id)
    session.add(certificate)
    await session.flush()
    certificate.number = f"C-{issued.year}-{certificate.id:06}"
    values = {"name": name, "course": course.title, "number": certificate.number, "date": day(issued)}
    file = await keep_pdf(session, store, "certificate", values, f"{certificate.number}.pdf")
    certificate.file_id = file.id
    return certificate


@job(queue="certificates")
async def revoke_certificate(
    certificate_id: Id, reason: Annotated[str, Field(min_length=1, max_length=500)], session: AsyncSession = injected
) -> bool:
    """Take a certificate back; False when that was done before."""
    certificate = await get(session, Certificate, certificate_id)
    if certificate.revoked_at is not None:
        return False
    certificate.revoked_at, certificate.revoke_reason = now(), reason
    return True
