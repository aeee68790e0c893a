"""Jobs of a database transaction in inline mode: run when it has committed, and not at all if it does not.

Jobs that are written in a transaction are kept with its connection, where SQLAlchemy's events report commits, rollbacks
and savepoints. They run when the session's transaction has ended, inside `await session.commit()`; for a connection
without a session, when it returns to its pool.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy import Connection, ExceptionContext, Pool, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.util.concurrency import await_, in_greenlet

from worker.broker.queue_store import NewJob
from worker.core.calls import Call
from worker.database.outbox import connection_of, packed

logger = structlog.stdlib.get_logger("embarq.inline")

WRITTEN = "embarq_inline"

Enqueue = Callable[[Call[Any], NewJob], Awaitable[object]]
Job = Callable[[], Awaitable[object]]


@dataclass(slots=True, eq=False)
class _Written:
    """The jobs of a connection.

    jobs: of the open transaction. committing: of the transaction whose commit was the latest event. ready: of those
    before it. savepoints: for each open one, how many jobs were written before it. in_session: a session's transaction
    has not ended.
    """

    jobs: list[Job] = field(default_factory=list)
    committing: list[Job] = field(default_factory=list)
    ready: list[Job] = field(default_factory=list)
    savepoints: list[int] = field(default_factory=list)
    in_session: bool = False

    def take(self) -> list[Job]:
        """The jobs that may run now."""
        taken = self.ready + self.committing
        self.ready, self.committing = [], []
        return taken


async def put(session: AsyncSession | AsyncConnection, call: Call[Any], enqueue: Enqueue) -> str:
    """Run a call if and when the caller's transaction commits; the id that its job will have. Raises as
    `worker.database.outbox.put`. `enqueue` runs a call, which was packed as a job."""
    job = packed(call)
    outer = await connection_of(session)
    connection = outer.sync_connection
    if connection is None:
        raise RuntimeError("the connection must not be closed")
    if not connection.in_transaction():  # as the first statement would
        await outer.begin()
    _listen(connection)
    written: _Written = connection.info.setdefault(WRITTEN, _Written())
    written.jobs.append(lambda: enqueue(call, job))
    if isinstance(session, AsyncSession):
        written.in_session = True
        inner = session.sync_session
        inner.info.setdefault(WRITTEN, []).append(written)
        if not event.contains(inner, "after_transaction_end", _session_ends):
            event.listen(inner, "after_transaction_end", _session_ends)
    return job.id


def _listen(connection: Connection) -> None:
    if not event.contains(connection, "commit", _commits):
        event.listen(connection, "begin", _begins)
        event.listen(connection, "commit", _commits)
        event.listen(connection, "rollback", _rolls_back)
        event.listen(connection, "savepoint", _saves)
        event.listen(connection, "release_savepoint", _releases)
        event.listen(connection, "rollback_savepoint", _rolls_back_to)
    if not event.contains(connection.engine, "handle_error", _fails):
        event.listen(connection.engine, "handle_error", _fails)


def _of(connection: Connection | None) -> _Written:
    found = None if connection is None or connection.closed else connection.info.get(WRITTEN)
    return found if isinstance(found, _Written) else _Written()


def _begins(connection: Connection) -> None:
    written = _of(connection)
    written.ready += written.committing
    written.committing = []


def _commits(connection: Connection) -> None:
    """It is about to commit: should that fail, `_fails` is called before any other event."""
    written = _of(connection)
    written.committing += written.jobs
    written.jobs, written.savepoints = [], []


def _fails(context: ExceptionContext) -> None:
    _of(context.connection).committing = []


def _rolls_back(connection: Connection) -> None:
    written = _of(connection)
    written.jobs, written.savepoints = [], []


def _saves(connection: Connection, _name: None) -> None:
    written = _of(connection)
    written.savepoints.append(len(written.jobs))


def _releases(connection: Connection, _name: str, _context: None) -> None:
    savepoints = _of(connection).savepoints
    if savepoints:
        savepoints.pop()


def _rolls_back_to(connection: Connection, _name: str, _context: None) -> None:
    """Inner savepoints end first. One that is not known began before the first job was written."""
    written = _of(connection)
    before = written.savepoints.pop() if written.savepoints else 0
    del written.jobs[before:]


def _session_ends(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        for written in session.info.pop(WRITTEN, ()):
            written.in_session = False
            _run(written.take())


@event.listens_for(Pool, "checkin")  # of any pool: the transaction is the caller's, and so is its engine
def _came_back(_connection: Any, record: Any) -> None:
    written = record.info.pop(WRITTEN, None)
    if isinstance(written, _Written) and not written.in_session:
        _run(written.take())


def _run(jobs: list[Job]) -> None:
    if jobs and in_greenlet():
        await_(_run_all(jobs))
    elif jobs:
        logger.error("jobs of a transaction were not run: its connection was garbage-collected")


async def _run_all(jobs: list[Job]) -> None:
    """The transaction has committed, whatever becomes of the jobs."""
    for job in jobs:
        try:
            await job()
        except Exception as error:
            logger.exception("job of a transaction could not be run", reason=str(error))
