"""Connections to Postgres that do not wait for ever: bounded in time, looked at before use, given up when silent.

A server can go silent without closing anything: its machine is gone, its processes are frozen, a firewall forgot the
connection. The kernel notices the first and the last (keepalive, user timeout); the rest does `Connector`.
"""

import asyncio
import contextlib
import socket
import time
from dataclasses import dataclass
from typing import Any

import asyncpg
import structlog
from sqlalchemy import event, exc
from sqlalchemy.engine.interfaces import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util.concurrency import in_greenlet

from worker.core.errors import EmbarqError

logger = structlog.stdlib.get_logger("embarq.database")

IDLE_LOOKED_AT = 1.0  # seconds without use after which a connection is asked for a sign of life
DOUBT_AFTER = 10.0  # seconds of use after which somebody asks whether the server still answers
PROBE_TIMEOUT = 10.0
GOODBYE = 1.0  # seconds for a connection to be closed in good order
KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPALIVE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 20_000}

# SQLSTATEs of a server that cannot serve now: connection, read-only after a failover, sign-in, no such database, out of
# resources, shut down, input and output.
AWAY = ("08", "25006", "28", "3D", "53", "57P", "58")
USED_AT = "embarq_used_at"
MUST_ROLL_BACK = "8s2b"  # SQLAlchemy's: the connection was lost earlier in this transaction


@dataclass(frozen=True, slots=True)
class Patience:
    """How long those who use a pool wait, in seconds.

    pool: for a connection to come free. connect: for a new one. look: for a sign of life of one that was idle.
    answer: for each answer; None leaves that to whoever asks, and gives up on a server only that answers nobody.
    """

    pool: float
    connect: float = 5.0
    look: float = 5.0
    answer: float | None = None


JOBS = Patience(pool=30.0)
ENGINE = Patience(pool=10.0, answer=10.0)
REQUESTS = Patience(pool=2.0, connect=1.5, look=1.0, answer=2.5)


class Connector:
    """Makes the connections of one pool, and looks after them: when they leave it, and while they are out."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._target: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
        self._in_use: dict[Any, tuple[Any, asyncio.TimerHandle]] = {}
        self._doubted: set[Any] = set()
        self._probe: asyncio.Task[None] | None = None
        self._deaf = False  # the last goodbye was not answered

    def attach(self, engine: AsyncEngine) -> None:
        """Look after the connections of this pool from now on."""
        pool = engine.sync_engine.pool
        event.listen(pool, "checkout", self._look)
        event.listen(pool, "checkin", self._came_back)
        event.listen(pool, "close", self._say_goodbye)
        event.listen(engine.sync_engine, "handle_error", _came_late)
        if self._patience.answer is None:
            event.listen(pool, "checkout", self._went_out)
            event.listen(pool, "detach", self._came_back)

    async def connect(self, *args: Any, **options: Any) -> Any:
        """asyncpg's connect, with a socket that notices a dead peer; all that is in the way is one kind of error."""
        self._target = (args, options)
        try:
            connection = await asyncpg.connect(*args, **options)
        except (TypeError, asyncpg.exceptions.ClientConfigurationError) as error:  # what stands behind ? in the URL
            hint = "; write ssl=require in place of sslmode=require" if "sslmode" in options else ""
            raise EmbarqError(f"DATABASE_URL cannot be used: {error}{hint}") from error
        except OSError as error:  # a time-out is one too
            reason = f"no connection: {str(error) or type(error).__name__}"
            raise asyncpg.exceptions.ClientCannotConnectError(reason) from error
        keep_alive(connection._transport.get_extra_info("socket"))
        self._deaf = False
        return connection

    def _look(self, connection: Any, record: Any, _proxy: Any) -> None:
        """Ask one that was idle for a sign of life; without one, the pool makes another."""
        if connection.driver_connection.is_closed():
            raise exc.DisconnectionError("it was closed")
        idle_since = record.info.get(USED_AT)
        if idle_since is not None and time.monotonic() > idle_since + IDLE_LOOKED_AT:
            connection.run_async(self._sign_of_life)

    async def _sign_of_life(self, driver: Any) -> None:
        try:
            await driver.execute("SELECT 1", timeout=self._patience.look)
        except TimeoutError as error:
            driver.terminate()
            raise exc.InvalidatePoolError("no sign of life") from error
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            driver.terminate()
            raise exc.DisconnectionError(str(error)) from error

    def _say_goodbye(self, connection: Any, _record: Any) -> None:
        """Close it before the pool does, which would wait for the answer for as long as it takes."""
        if in_greenlet():  # else it is collected, and the pool only drops it
            connection.run_async(self._close)

    async def _close(self, driver: Any) -> None:
        if self._deaf:
            driver.terminate()
        with contextlib.suppress(TimeoutError):
            await driver.close(timeout=GOODBYE)
            return
        self._deaf = True

    def _went_out(self, connection: Any, record: Any, _proxy: Any) -> None:
        timer = asyncio.get_running_loop().call_later(DOUBT_AFTER, self._doubt, record)
        self._in_use[record] = (connection.driver_connection, timer)

    def _came_back(self, _connection: Any, record: Any) -> None:
        record.info[USED_AT] = time.monotonic()
        if record in self._in_use:
            self._in_use.pop(record)[1].cancel()

    def _doubt(self, record: Any) -> None:
        """It has been out for long: a slow statement, a job that thinks, or a server that went silent."""
        self._doubted.add(record)
        if self._probe is None or self._probe.done():
            self._probe = asyncio.get_running_loop().create_task(self._ask())

    async def _ask(self) -> None:
        """Find out by a new connection. Where that gets no answer at all, those who wait hear that nobody is there."""
        answered = await self._answers()
        doubted, self._doubted = self._doubted, set()
        silent = [record for record in doubted if record in self._in_use]
        if not answered and silent:
            logger.warning("postgres is silent: connections in use are given up", connections=len(silent))
        for record in silent:
            driver, _ = self._in_use[record]
            if not answered:
                driver.terminate()
            timer = asyncio.get_running_loop().call_later(DOUBT_AFTER, self._doubt, record)
            self._in_use[record] = (driver, timer)

    async def _answers(self) -> bool:
        """Whether the server says anything; a refusal is an answer, after which what hangs on it hears of its end."""
        args, options = self._target
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                probe = await asyncpg.connect(*args, **{**options, "timeout": PROBE_TIMEOUT})
                await probe.close(timeout=1.0)
        except (TimeoutError, BlockingIOError):  # the latter: the queue of a socket of this machine is full
            return False
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return True
        return True


def keep_alive(found: Any) -> None:
    """Let the kernel end the connection of a TCP socket whose other side has been gone for some 25 s."""
    if found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
        return
    # An event loop's own socket object may not set options; they belong to what is open below it.
    with socket.socket(fileno=socket.dup(found.fileno())) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            if hasattr(socket, name):
                same.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def is_outage(error: BaseException) -> bool:
    """Whether an error says that the database is away, and nothing about what was asked of it."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_outage(each) for each in error.exceptions)
    if isinstance(error, exc.DBAPIError):
        return error.connection_invalidated or _says_away(error.orig)
    if isinstance(error, exc.PendingRollbackError):
        return error.code == MUST_ROLL_BACK
    return isinstance(error, exc.TimeoutError) or _says_away(error)


def _says_away(error: BaseException | None) -> bool:
    return str(getattr(error, "sqlstate", None) or "").startswith(AWAY)


def _came_late(context: ExceptionContext) -> Exception | None:
    """An answer that did not come in time is the end of its connection."""
    late = context.original_exception
    if not isinstance(late, TimeoutError):
        return None
    context.is_disconnect = True
    return exc.DBAPIError(None, None, TimeoutError("no answer in time"), connection_invalidated=True)
