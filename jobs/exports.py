"""Tables as files for spreadsheets."""

import csv
import io
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import TypedDict

from jobs.models import Student, User
from jobs.storage import FileStore
from worker import Context, injected, job

KEPT = timedelta(days=7)
ROWS_A_PART = 1000
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # CSV injection, as OWASP describes it


class Export(TypedDict):
    """A file that was made: its id, its rows, and a link to it that is valid for an hour."""

    file_id: int
    rows: int
    link: str


def safe(value: object) -> str:
    """A cell that a spreadsheet reads as text, never as a formula."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(FORMULA) else text


async def csv_parts(header: list[str], rows: AsyncIterator[Any], report: Any) -> AsyncIterator[bytes]:
    """Rows as CSV in UTF-8 with a byte order mark, a thousand a part; `report` is called with their number so far."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    yield "\ufeff".encode()  # without it Excel reads the file in the encoding of the machine
    writer.writerow(header)
    count = 0
    async for row in rows:
        writer.writerow([safe(value) for value in row])
        count += 1
        if count % ROWS_A_PART == 0:
            yield buffer.getvalue().encode()
            buffer.seek(0)
            buffer.truncate()
            report(count)
    yield buffer.getvalue().encode()
    report(count)


def students(active_only: bool) -> Select[int, str, str, bool, datetime]:
    """All students, or those that are active, by id."""
    query = select(Student.id, User.name, User.email, Student.is_active, Student.joined_at)
    query = query.join(User, User.id == Student.user_id).order_by(Student.id)
    return query.where(Student.is_active) if active_only else query


@job(queue="exports", timeout=1800, soft_timeout=1700)
async def export_students_csv(
    ctx: Context, active_only: bool = False, session: AsyncSession = injected, store: FileStore = injected
) -> Export:
    """Write the students into a CSV file, row by row from a server-side cursor: memory does not grow with their number.

    A second run writes another file; what has no row is removed by `cleanup_old_files`.
    """
    written = 0

    def report(count: int) -> None:
        nonlocal written
        written = count
        ctx.progress(count, None, f"{count} rows")

    found = await session.stream(students(active_only), execution_options={"yield_per": ROWS_A_PART})
    parts = csv_parts(["id", "name", "email", "active", "joined"], found, report)
    file = await store.keep(session, "students.csv", "text/csv", parts, keep=KEPT)
    return {"file_id": file.id, "rows": written, "link": store.link(file)}
