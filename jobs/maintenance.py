"""What keeps the service tidy."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import date, datetime, timedelta
from typing import Annotated

from pydantic import Field
from sqlalchemy import CursorResult, Delete, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from jobs import mail
from jobs.cache import Cache
from jobs.exports import csv_parts
from jobs.fan_out import fan_out
from jobs.lookups import Id, day, get, now, user_of
from jobs.mail import Email, Mailer
from jobs.models import (
    Archive,
    Assignment,
    Course,
    EmailSent,
    Enrolment,
    FilePart,
    LoginSession,
    Message,
    Notification,
    StoredFile,
    Token,
    User,
)
from jobs.storage import FileStore
from worker import Context, Permanent, every, injected, job, schedule
from worker.database import Database
from worker.system.programs import postgres_program

Days = Annotated[int, Field(ge=1, le=3650)]
CACHED = 300.0
ARCHIVED = {"messages": Message.sent_at, "emails_sent": EmailSent.sent_at, "notifications": Notification.created_at}


async def _removed(session: AsyncSession, statement: Delete) -> int:
    result = await session.execute(statement)
    return result.rowcount if isinstance(result, CursorResult) else 0


@schedule("30 3 * * *")
@job(queue="maintenance")
async def cleanup_old_sessions(days: Days = 30, session: AsyncSession = injected) -> int:
    """Remove logins that were not used for `days`; how many. A second run finds none."""
    return await _removed(session, delete(LoginSession).where(LoginSession.last_seen_at < now() - timedelta(days=days)))


@schedule("0 3 * * *")
@job(queue="maintenance")
async def cleanup_expired_tokens(session: AsyncSession = injected) -> int:
    """Remove tokens that have expired; how many. A second run finds none."""
    return await _removed(session, delete(Token).where(Token.expires_at < now()))


@job(queue="maintenance")
async def cleanup_unverified_users(days: Days = 7, session: AsyncSession = injected) -> int:
    """Remove users who have not verified their address for `days`; how many. A second run finds none."""
    before = now() - timedelta(days=days)
    return await _removed(session, delete(User).where(User.verified_at.is_(None), User.created_at < before))


@schedule("0 3 * * *")
@job(queue="maintenance")
async def cleanup_old_files(
    ctx: Context, days: Days = 7, session: AsyncSession = injected, store: FileStore = injected
) -> int:
    """Remove files that have expired, and those older than `days` without a row; how many. A second run finds none."""
    expired = (await session.scalars(select(StoredFile).where(StoredFile.expires_at < now()))).all()
    for file in expired:
        await store.remove(session, file)
    stray = await store.remove_stray(session, now() - timedelta(days=days))
    ctx.logger.info("old files removed", expired=len(expired), stray=stray)
    return len(expired) + stray


@schedule("0 0 1 * *")
@job(queue="maintenance", timeout=3600, soft_timeout=3500)
async def monthly_archive(session: AsyncSession = injected, store: FileStore = injected) -> dict[str, int]:
    """Move what was sent before the last month into CSV files, a table at a time; rows by table.

    File, record and removal are one commit, and a month of a table is archived once: a second run finds no rows.
    """
    month = (now().date().replace(day=1) - timedelta(days=1)).replace(day=1)
    return {name: await _archive(session, store, name, month) for name in ARCHIVED}


async def _archive(session: AsyncSession, store: FileStore, name: str, month: date) -> int:
    column = ARCHIVED[name]
    table = column.class_.__table__
    old = table.c[column.key] < datetime(month.year, month.month, 1, tzinfo=now().tzinfo)
    count = await session.scalar(select(func.count()).select_from(table).where(old)) or 0
    if not count:
        return 0
    rows = await session.stream(select(table).where(old).order_by(table.c.id), execution_options={"yield_per": 1000})
    parts = csv_parts(list(table.c.keys()), rows, lambda _count: None)
    file = await store.keep(session, f"{name}-{month:%Y-%m}.csv", "text/csv", parts)
    await session.execute(delete(table).where(old))
    row = insert(Archive).values(month=month, source=name, rows=count, file_id=file.id)
    await session.execute(
        row.on_conflict_do_update(index_elements=["month", "source"], set_={"rows": Archive.rows + count})
    )
    return count


class BackupFailed(Permanent):
    """`pg_dump` failed; the message is its own."""


@schedule("0 0 * * *")
@job(queue="maintenance", timeout=3600, soft_timeout=3500)
async def backup_database(
    database: Database = injected, session: AsyncSession = injected, store: FileStore = injected
) -> int:
    """Dump the database in Postgres' own format, kept for 30 days; the file's id. `pg_restore` reads it.

    The bytes of files are left out: each dump would hold those before it. A second run writes another dump.
    """
    url = database.engine.url.set(drivername="postgresql")
    process = await asyncio.create_subprocess_exec(
        str(postgres_program("pg_dump")),
        "--format=custom",
        "--no-owner",
        f"--exclude-table-data={FilePart.__tablename__}",
        url._replace(password=None).render_as_string(),
        env={
            **os.environ,
            "PGPASSWORD": url.password or "",
        },  # not an argument, which every user of the machine can see
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )

    async def parts() -> AsyncIterator[bytes]:
        assert process.stdout is not None  # noqa: S101  # it was asked for
        while part := await process.stdout.read(1 << 20):
            yield part
        _, complaint = await process.communicate()
        if process.returncode:
            raise BackupFailed(complaint.decode()[-500:])

    try:
        name = f"backup-{now():%Y-%m-%dT%H%M%S}.dump"
        stored = await store.keep(session, name, "application/octet-stream", parts(), keep=timedelta(days=30))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return stored.id


@schedule(every(60), overlap="skip")
@job(queue="maintenance")
async def warm_cache(session: AsyncSession = injected, cache: Cache = injected) -> int:
    """Put the catalogue of courses with their numbers of students where readers need no query; how many courses."""
    counted = (
        select(Course.id, Course.title, Course.price_cents, func.count(Enrolment.id))
        .join(Enrolment, Enrolment.course_id == Course.id, isouter=True)
        .group_by(Course.id)
        .order_by(Course.id)
    )
    found = (await session.execute(counted)).all()
    courses = [{"id": key, "title": title, "price_cents": price, "students": n} for key, title, price, n in found]
    await cache.put("courses", courses, keep=CACHED)
    return len(courses)


@job(queue="emails", max_tries=8, retry=mail.WHILE_AWAY)
async def send_assignment_reminder(
    student_id: Id, assignment_id: Id, session: AsyncSession = injected, mailer: Mailer = injected
) -> bool:
    """Remind a student of an assignment; once for each pair."""
    user, assignment = await user_of(session, student_id), await get(session, Assignment, assignment_id)
    course = await get(session, Course, assignment.course_id)
    values = {"name": user.name, "assignment": assignment.title, "course": course.title, "due": day(assignment.due_at)}
    subject, key = f"Due soon: {assignment.title}", f"reminder:{student_id}:{assignment_id}"
    return await mailer.send(session, Email(user.email, subject, "reminder", values, key))


@job(queue="maintenance")
async def send_assignment_reminders(
    ctx: Context, hours: Annotated[int, Field(ge=1, le=24 * 30)] = 24, session: AsyncSession = injected
) -> int:
    """Remind students who have not completed a course of what is due in it within `hours`; how many reminders.

    A second run starts nothing anew, and no student is reminded of an assignment twice.
    """
    due = await session.execute(
        select(Enrolment.student_id, Assignment.id)
        .join(Assignment, Assignment.course_id == Enrolment.course_id)
        .where(
            Enrolment.completed_at.is_(None),
            Assignment.due_at > now(),
            Assignment.due_at < now() + timedelta(hours=hours),
        )
    )
    steps = [send_assignment_reminder.s(student_id=student, assignment_id=each) for student, each in due]
    await fan_out(steps, f"{ctx.job_id}.reminders")
    return len(steps)
