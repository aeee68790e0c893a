"""Jobs that have ended, from the database: one by its id, or a filtered list."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, Select, Text, and_, case, cast, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.core.errors import EmbarqError, JobNotFound
from worker.core.job import Job, JobAttempt, Priority, Progress, State, read_error
from worker.core.options import EARLIEST, LATEST
from worker.database import unavailable_when_away
from worker.history.tables import jobs_table, tries_table

MOST = 200
SHOWN = 4096  # bytes of a value that a page shows whole
SHOWN_OF_ERROR = 1000  # characters of the message


class InvalidCursor(EmbarqError):
    """A cursor is not one that a page returned."""


@dataclass(frozen=True, slots=True)
class Query:
    """A filter of jobs; None matches all. `words` must all be in the job's id, name, arguments or error.

    since, until: bounds of the end. after: the cursor of the page before. limit: jobs of a page, 200 at most.
    """

    state: State | None = None
    job: str | None = None
    queue: str | None = None
    tag: str | None = None
    words: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    after: str | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Page:
    """Jobs, newest end first, and the cursor of the next page if there is one. They come without their tries; arguments
    and results over 4 kB as `{"cut": bytes}`, errors as large without their traceback."""

    jobs: tuple[Job, ...]
    following: str | None


class History:
    """Every method raises `DatabaseUnavailable` when Postgres cannot serve it.

    `unread`: the result of a job that is found stays as it is written, as `msgspec.Raw`, for those who only pass it on.
    """

    def __init__(self, engine: AsyncEngine, *, unread: bool = False) -> None:
        self._engine = engine
        self._unread = unread

    async def find(self, job_id: str) -> Job:
        """The job of this id that ended last, with its tries.

        Raises:
            JobNotFound: there is none (any more).
        """
        if "\0" in job_id:  # which no column may hold
            raise JobNotFound(job_id)
        table, tries = jobs_table, tries_table
        result = cast(table.c.result, Text).label("result") if self._unread else table.c.result
        columns = [result if column is table.c.result else column for column in table.c]
        newest = select(*columns).where(table.c.id == job_id).order_by(table.c.enqueued_at.desc()).limit(1)
        with unavailable_when_away():
            async with self._engine.connect() as connection:
                row = (await connection.execute(newest)).first()
                if row is None:
                    raise JobNotFound(job_id)
                own = and_(tries.c.job_id == job_id, tries.c.enqueued_at == row.enqueued_at)
                past = (await connection.execute(select(tries).where(own).order_by(tries.c.number))).all()
        found = _job(row, past)
        is_read = not self._unread or found.result is None
        return found if is_read else replace(found, result=msgspec.Raw(found.result.encode()))

    async def list(self, query: Query) -> Page:
        """A page of jobs.

        Raises:
            InvalidCursor: `after` is not one that a page returned.
        """
        limit = min(MOST, max(1, query.limit))
        if any("\0" in word for word in (query.job, query.queue, query.tag, query.words) if word):
            return Page((), None)  # no column may hold it
        with unavailable_when_away():
            async with self._engine.connect() as connection:
                rows = (await connection.execute(statement(query, limit + 1))).all()
        jobs = tuple(_job(row) for row in rows[:limit])
        return Page(jobs, cursor_of(jobs[-1]) if len(rows) > limit else None)


def statement(query: Query, limit: int) -> Select[*tuple[Any, ...]]:
    """The query of a page, by keyset pagination: a page begins after the last row of the one before, which costs the
    same for each page, and skips or repeats none when rows are added (https://use-the-index-luke.com/no-offset)."""
    newest_first = (jobs_table.c.finished_at.desc(), jobs_table.c.id.desc())
    rows = select(jobs_table).where(*_conditions(query)).order_by(*newest_first).limit(limit)
    page = rows.subquery("page").c  # so that only the page's values are measured and cut
    cut = {"args": _cut, "result": _cut, "error": _cut_error, "progress": _cut_progress}
    columns = [cut[each.name](each).label(each.name) if each.name in cut else each for each in page]
    return select(*columns).order_by(page.finished_at.desc(), page.id.desc())


def _cut(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """A value, or its size: first by what it takes in the table, which does not read a compressed value, then by its
    text."""
    stored, written = func.pg_column_size(column), func.octet_length(cast(column, Text))
    return case(
        (stored > SHOWN, func.jsonb_build_object("cut", stored)),
        (written > SHOWN, func.jsonb_build_object("cut", written)),
        else_=column,
    )


def _cut_error(column: ColumnElement[Any]) -> ColumnElement[Any]:
    kind, message = (func.left(column.op("->>")(name), SHOWN_OF_ERROR) for name in ("type", "message"))
    return case((_is_large(column), func.jsonb_build_object("type", kind, "message", message)), else_=column)


def _cut_progress(column: ColumnElement[Any]) -> ColumnElement[Any]:
    numbers = func.jsonb_build_object("c", column.op("->")("c"), "t", column.op("->")("t"))
    return case((_is_large(column), numbers), else_=column)


def _is_large(column: ColumnElement[Any]) -> ColumnElement[bool]:
    return func.octet_length(cast(column, Text)) > SHOWN


def _conditions(query: Query) -> list[ColumnElement[bool]]:
    columns = jobs_table.c
    found: list[ColumnElement[bool]] = []
    for name in ("state", "job", "queue"):
        value = getattr(query, name)
        if value is not None:
            found.append(columns[name] == value)
    if query.tag is not None:
        found.append(columns.tags.contains([query.tag]))
    if query.words is not None:
        asked = func.plainto_tsquery(text("'simple'"), query.words)
        found.append(func.to_tsvector(text("'simple'"), columns.words).op("@@")(asked))
    if query.since is not None:
        found.append(columns.finished_at >= _utc(query.since))
    if query.until is not None:
        found.append(columns.finished_at < _utc(query.until))
    if query.after is not None:
        at, job_id = _read_cursor(query.after)
        earlier = or_(columns.finished_at < at, and_(columns.finished_at == at, columns.id < job_id))
        found += [columns.finished_at <= at, earlier]
    return found


def cursor_of(job: Job) -> str:
    """The cursor of a page that ends with this job."""
    at = "" if job.finished_at is None else job.finished_at.isoformat()
    return base64.urlsafe_b64encode(f"{at} {job.id}".encode()).decode()


def _read_cursor(cursor: str) -> tuple[datetime, str]:
    try:
        text_at, _, job_id = base64.urlsafe_b64decode(cursor).decode().partition(" ")
        at = datetime.fromisoformat(text_at)
    except ValueError:
        raise InvalidCursor(f"a cursor must be the `next` of a page, not {cursor!r}") from None
    if at.tzinfo is None or not EARLIEST <= at < LATEST or "\0" in job_id:
        raise InvalidCursor(f"a cursor must be the `next` of a page, not {cursor!r}")
    return _utc(at), job_id


def _utc(at: datetime) -> datetime:
    """The time in UTC; one beyond Python's calendar becomes its first or last."""
    try:
        return at.astimezone(UTC)
    except OverflowError:
        return (datetime.min if at.year == 1 else datetime.max).replace(tzinfo=UTC)


def _job(row: Row[Any], past: Sequence[Row[Any]] = ()) -> Job:
    progress = row.progress
    return Job(
        id=row.id,
        name=row.job,
        queue=row.queue,
        priority=Priority(row.priority),
        state=State(row.state),
        args=row.args,
        tries=row.tries,
        max_tries=row.max_tries,
        enqueued_at=row.enqueued_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        progress=None if progress is None else _progress(progress),
        result=row.result,
        error=read_error(row.error),
        worker=row.worker,
        tags=tuple(row.tags),
        workflow_id=row.workflow_id,
        attempts=tuple(_try(each) for each in past),
    )


def _progress(record: Mapping[str, Any]) -> Progress:
    return Progress(record["c"], record.get("t"), record.get("m"), record.get("d"))


def _try(row: Row[Any]) -> JobAttempt:
    return JobAttempt(row.number, row.outcome, row.started_at, row.finished_at, row.worker, read_error(row.error))
