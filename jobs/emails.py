"""E-mails to people."""

from typing import Annotated

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from jobs import mail
from jobs.lookups import Id, get, user_of
from jobs.mail import Email, Mailer
from jobs.models import Course, User
from worker import Context, Priority, injected, job

Address = Annotated[str, Field(pattern=r"^[^@\s\x00]+@[^@\s\x00]+\.[^@\s\x00]+$", max_length=254)]
Subject = Annotated[str, Field(min_length=1, max_length=200)]
Body = Annotated[str, Field(min_length=1, max_length=100_000)]
RESET_MINUTES = 30


@job(queue="emails", max_tries=8, retry=mail.WHILE_AWAY)
async def send_email(
    ctx: Context,
    to: Address,
    subject: Subject,
    body: Body,
    session: AsyncSession = injected,
    mailer: Mailer = injected,
) -> bool:
    """Send an e-mail. A second run finds the record of the first; `priority=Priority.HIGH` sends it before others."""
    return await mailer.send(session, Email(to, subject, "plain", {"body": body}, f"job:{ctx.job_id}"))


@job(queue="emails", max_tries=8, retry=mail.WHILE_AWAY)
async def send_welcome_email(user_id: Id, session: AsyncSession = injected, mailer: Mailer = injected) -> bool:
    """Welcome a new user. Once for each user, whoever asks: the e-mail's key is the user's."""
    user = await get(session, User, user_id)
    return await mailer.send(
        session, Email(user.email, "Welcome", "welcome", {"name": user.name}, f"welcome:{user_id}")
    )


@job(queue="emails", priority=Priority.HIGH, max_tries=5, retry=mail.WHILE_AWAY, result_ttl=0)
async def send_password_reset_email(
    user_id: Id,
    code: Annotated[str, Field(min_length=6, max_length=100)],
    session: AsyncSession = injected,
    mailer: Mailer = injected,
) -> bool:
    """Send the code that sets a new password; once for each code."""
    user = await get(session, User, user_id)
    values = {"name": user.name, "code": code, "minutes": RESET_MINUTES}
    return await mailer.send(session, Email(user.email, "A new password", "password_reset", values, f"reset:{code}"))


@job(queue="emails", max_tries=8, retry=mail.WHILE_AWAY)
async def send_enrollment_confirmation(
    student_id: Id, course_id: Id, session: AsyncSession = injected, mailer: Mailer = injected
) -> bool:
    """Confirm that a student is in a course; once for each pair."""
    user, course = await user_of(session, student_id), await get(session, Course, course_id)
    values = {"name": user.name, "course": course.title}
    key = f"enrolment:{student_id}:{course_id}"
    return await mailer.send(
        session, Email(user.email, f"You are enrolled in {course.title}", "enrolment", values, key)
    )
