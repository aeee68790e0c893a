"""Notifies relays that something was committed: one `NOTIFY` for many commits, and none inside of them.

A transaction that has notified takes a lock of the whole server while it commits (`PreCommit_Notify` in Postgres'
async.c), so such commits come one after the other. So the transaction is only marked, and when its connection comes
back to the pool after the commit, another connection notifies.
"""

import asyncio
from typing import Any
from weakref import WeakKeyDictionary

import structlog
from sqlalchemy import Connection, Engine, Pool, event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

logger = structlog.stdlib.get_logger("embarq.outbox")

CHANNEL = "embarq_outbox"
GATHERED_FOR = 0.005  # seconds in which commits share a notice
GIVEN_UP_AFTER = 1.0  # seconds; relays poll as often

WRITTEN = "embarq_written"
COMMITTED = "embarq_committed"


def notify_after_commit(connection: AsyncConnection) -> None:
    """Notify relays of this transaction if and when it commits."""
    inner = connection.sync_connection
    if inner is None or WRITTEN in inner.info:
        return
    inner.info[WRITTEN] = True
    if not event.contains(inner, "commit", _commits):
        event.listen(inner, "commit", _commits)
        event.listen(inner, "rollback", _rolls_back)


def _commits(connection: Connection) -> None:
    if connection.info.pop(WRITTEN, False):
        connection.info[COMMITTED] = connection.engine


def _rolls_back(connection: Connection) -> None:
    connection.info.pop(WRITTEN, None)
    connection.info.pop(COMMITTED, None)


@event.listens_for(Pool, "checkin")  # of any pool: the transaction is the caller's, and so is its engine
def _came_back(_connection: Any, record: Any) -> None:
    record.info.pop(WRITTEN, None)
    engine = record.info.pop(COMMITTED, None)
    if engine is not None:
        _notifiers.setdefault(engine, Notifier()).note(engine)


class Notifier:
    """Notifies for an engine, soon and once for all that was committed meanwhile. A failure is not retried: relays poll
    once a second anyway."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._news = False

    def note(self, engine: Engine) -> None:
        """Something was committed."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # the pool is being garbage-collected outside of the loop
            return
        self._news = True
        if self._task is None or self._task.done() or self._task.get_loop() is not loop:
            if not event.contains(engine, "engine_disposed", self._stop):
                event.listen(engine, "engine_disposed", self._stop)
            self._task = loop.create_task(self._tell(engine), name="outbox, notice")

    def _stop(self, _engine: Engine) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _tell(self, engine: Engine) -> None:
        while self._news:
            await asyncio.sleep(GATHERED_FOR)
            self._news = False
            try:
                async with asyncio.timeout(GIVEN_UP_AFTER), AsyncEngine(engine).connect() as connection:
                    await connection.execution_options(isolation_level="AUTOCOMMIT")
                    await connection.execute(text(f"NOTIFY {CHANNEL}"))
            except Exception as error:
                logger.debug("relays were not notified", reason=type(error).__name__)


_notifiers: WeakKeyDictionary[Engine, Notifier] = WeakKeyDictionary()
