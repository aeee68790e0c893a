"""Reports, as PDF files or e-mails."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute
from typing_extensions import TypedDict

from jobs import mail
from jobs.fan_out import fan_out
from jobs.lookups import Id, day, get, now, user_of
from jobs.mail import Email, Mailer
from jobs.models import Course, Enrolment, LessonProgress, Order, Student, User
from jobs.notifications import notify
from jobs.pdf import keep_pdf
from jobs.storage import FileStore
from worker import Context, SoftTimeLimitExceeded, injected, job, schedule

KEPT = timedelta(days=30)


class Report(TypedDict):
    """A report that was made: its file, a link that is valid for an hour, and whether all courses are in it."""

    file_id: int
    link: str
    complete: bool


async def _write(
    session: AsyncSession, store: FileStore, name: str, values: dict[str, Any], *, complete: bool = True
) -> Report:
    file = await keep_pdf(session, store, "report", values, name, keep=KEPT)
    return {"file_id": file.id, "link": store.link(file), "complete": complete}


@job(queue="reports", timeout=600, soft_timeout=540)
async def generate_student_report(
    ctx: Context, student_id: Id, session: AsyncSession = injected, store: FileStore = injected
) -> Report:
    """Write a student's report and notify the student. A second run writes another file and does not notify again."""
    user = await user_of(session, student_id)
    found = await session.execute(
        select(Course.title, Enrolment.percent, Enrolment.completed_at)
        .join(Course, Course.id == Enrolment.course_id)
        .where(Enrolment.student_id == student_id)
        .order_by(Course.title)
    )
    rows = [[title, f"{percent} %", day(done) if done else "open"] for title, percent, done in found]
    values = {
        "title": "Student report",
        "subtitle": user.name,
        "columns": ["Course", "Done", "Completed"],
        "rows": rows,
    }
    report = await _write(session, store, f"student-{student_id}.pdf", values)
    await notify(session, user.id, "Your report is ready", report["link"], f"report:{ctx.job_id}")
    return report


@job(queue="reports", soft_timeout=60, timeout=90)
async def generate_report(
    ctx: Context, user_id: Id, session: AsyncSession = injected, store: FileStore = injected
) -> Report:
    """Write a report on all courses for a user; at the soft limit, on those that were counted by then."""
    user = await get(session, User, user_id)
    courses = (await session.execute(select(Course.id, Course.title).order_by(Course.id))).all()
    rows: list[list[str]] = []
    complete = True
    try:
        for place, (course_id, title) in enumerate(courses, start=1):
            rows.append([title, *await _numbers(session, course_id)])
            ctx.progress(place, len(courses))
    except SoftTimeLimitExceeded:
        complete = False
    subtitle = f"for {user.name}, {day(now())}" + ("" if complete else ", not complete")
    values = {"title": "Courses", "subtitle": subtitle, "columns": ["Course", "Students", "Completed"], "rows": rows}
    report = await _write(session, store, "courses.pdf", values, complete=complete)
    await notify(session, user.id, "Your report is ready", report["link"], f"report:{ctx.job_id}")
    return report


async def _numbers(session: AsyncSession, course_id: int) -> list[str]:
    counted = select(func.count(), func.count(Enrolment.completed_at)).where(Enrolment.course_id == course_id)
    students, completed = (await session.execute(counted)).one()
    return [str(students), str(completed)]


class Numbers(TypedDict):
    """What happened in a period."""

    users: int
    enrolments: int
    completed: int
    lessons: int
    orders: int


async def numbers_of(session: AsyncSession, since: datetime, until: datetime) -> Numbers:
    """What happened between two times."""

    async def count(column: InstrumentedAttribute[Any]) -> int:
        return await session.scalar(select(func.count()).where(column >= since, column < until)) or 0

    return {
        "users": await count(User.created_at),
        "enrolments": await count(Enrolment.enrolled_at),
        "completed": await count(Enrolment.completed_at),
        "lessons": await count(LessonProgress.done_at),
        "orders": await count(Order.placed_at),
    }


@job(queue="reports")
async def generate_hourly_report(session: AsyncSession = injected) -> Numbers:
    """The numbers of the last hour. It only reads."""
    return await numbers_of(session, now() - timedelta(hours=1), now())


@schedule("0 9 * * mon")
@job(queue="reports")
async def generate_weekly_report(session: AsyncSession = injected, store: FileStore = injected) -> Report:
    """Write the numbers of the last week as a PDF. A second run writes another file."""
    numbers = await numbers_of(session, now() - timedelta(days=7), now())
    rows = [[name.capitalize(), str(value)] for name, value in numbers.items()]
    values = {"title": "The week", "subtitle": day(now()), "columns": ["What", "How many"], "rows": rows}
    return await _write(session, store, "week.pdf", values)


@job(queue="emails", max_tries=8, retry=mail.WHILE_AWAY)
async def send_digest(student_id: Id, week: str, session: AsyncSession = injected, mailer: Mailer = injected) -> bool:
    """Mail a student the numbers of the last week; once for each week."""
    user = await user_of(session, student_id)
    mine = Enrolment.student_id == student_id
    enrolments, completed = (
        await session.execute(select(func.count(), func.count(Enrolment.completed_at)).where(mine))
    ).one()
    lessons = await session.scalar(
        select(func.count())
        .select_from(LessonProgress)
        .join(Enrolment, Enrolment.id == LessonProgress.enrolment_id)
        .where(mine, LessonProgress.done_at >= now() - timedelta(days=7))
    )
    values = {"name": user.name, "enrolments": enrolments, "completed": completed, "lessons": lessons}
    return await mailer.send(session, Email(user.email, "Your week", "digest", values, f"digest:{student_id}:{week}"))


@job(queue="reports")
async def send_weekly_digest(ctx: Context, session: AsyncSession = injected) -> int:
    """Send every active student the digest of the week, a job each; how many. A second run starts none."""
    ids = (await session.scalars(select(Student.id).where(Student.is_active))).all()
    week = f"{now():%G-W%V}"
    await fan_out((send_digest.s(student_id=each, week=week) for each in ids), f"{ctx.job_id}.digests")
    return len(ids)
