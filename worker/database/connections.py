"""Connections to Postgres that never wait without a limit: bounded in time, checked before use, given up when silent.

A server can fall silent without closing anything: its machine is gone, its processes are frozen, a firewall has dropped
the connection. The kernel notices the first and the last (keepalive, user timeout); `Connector` does the rest.
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

IDLE_LOOKED_AT = 1.0  # seconds without use after which a connection is tested before it is used again
DOUBT_AFTER = 10.0  # seconds of use after which the server is probed
PROBE_TIMEOUT = 10.0
GOODBYE = 1.0  # seconds for a connection to be closed gracefully
# Probes after 10 s of silence, every 5 s, three times: a dead peer is noticed after 25 s. The user timeout (RFC 5482,
# here in ms) does the same while sent bytes are not acknowledged, when the kernel sends no probes. TCP_KEEPALIVE is
# macOS' name for TCP_KEEPIDLE.
KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPALIVE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 20_000}

# SQLSTATEs of a server that cannot serve now (Postgres' documentation, appendix A): connection, read-only after a
# failover, authorization, no such database, out of resources, operator intervention (shutdown), system error.
AWAY = ("08", "25006", "28", "3D", "53", "57P", "58")
USED_AT = "embarq_used_at"
MUST_ROLL_BACK = "8s2b"  # SQLAlchemy's: the connection was lost earlier in this transaction


@dataclass(frozen=True, slots=True)
class Patience:
    """How long those who use a pool wait, in seconds.

    pool: for a free connection. connect: for a new one. look: for the test of one that was idle.
    answer: for each answer; None leaves that to the caller, and gives up only on a server that answers nobody.
    """

    pool: float
    connect: float = 5.0
    look: float = 5.0
    answer: float | None = None


JOBS = Patience(pool=30.0)
ENGINE = Patience(pool=10.0, answer=10.0)
REQUESTS = Patience(pool=2.0, connect=1.5, look=1.0, answer=2.5)


class Connector:
    """Makes the connections of one pool, and checks them: at check-out, and while they are in use."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._target: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
        self._in_use: dict[Any, tuple[Any, asyncio.TimerHandle]] = {}
        self._doubted: set[Any] = set()
        self._probe: asyncio.Task[None] | None = None
        self._deaf = False  # the server did not answer the last graceful close

    def attach(self, engine: AsyncEngine) -> None:
        """Check the connections of this pool from now on."""
        pool = engine.sync_engine.pool
        event.listen(pool, "checkout", self._look)
        event.listen(pool, "checkin", self._came_back)
        event.listen(pool, "close", self._say_goodbye)
        event.listen(engine.sync_engine, "handle_error", _came_late)
        if self._patience.answer is None:
            event.listen(pool, "checkout", self._went_out)
            event.listen(pool, "detach", self._came_back)

    async def connect(self, *args: Any, **options: Any) -> Any:
        """asyncpg's connect, with a socket that notices a dead peer, and one class of error for all that may fail."""
        self._target = (args, options)
        try:
            connection = await asyncpg.connect(*args, **options)
        except (TypeError, asyncpg.exceptions.ClientConfigurationError) as error:  # the parameters after ? in the URL
            hint = "; write ssl=require in place of sslmode=require" if "sslmode" in options else ""
            raise EmbarqError(f"DATABASE_URL cannot be used: {error}{hint}") from error
        except OSError as error:  # TimeoutError is one, too
            reason = f"no connection: {str(error) or type(error).__name__}"
            raise asyncpg.exceptions.ClientCannotConnectError(reason) from error
        keep_alive(connection._transport.get_extra_info("socket"))
        self._deaf = False
        return connection

    def _look(self, connection: Any, record: Any, _proxy: Any) -> None:
        """Test a connection that was idle; if it fails, the pool makes another one."""
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
            raise exc.InvalidatePoolError("an idle connection does not answer") from error
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            driver.terminate()
            raise exc.DisconnectionError(str(error)) from error

    def _say_goodbye(self, connection: Any, _record: Any) -> None:
        """Close it before the pool does, which would wait for the answer without a limit."""
        if in_greenlet():  # else it is being garbage-collected, and the pool only drops it
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
        """It has been in use for long: a slow statement, a job that computes, or a server that fell silent."""
        self._doubted.add(record)
        if self._probe is None or self._probe.done():
            self._probe = asyncio.get_running_loop().create_task(self._ask())

    async def _ask(self) -> None:
        """Probe the server with a new connection. If that gets no answer at all, connections in use are closed, so that
        those who wait get an error."""
        answered = await self._answers()
        doubted, self._doubted = self._doubted, set()
        silent = [record for record in doubted if record in self._in_use]
        if not answered and silent:
            logger.warning("postgres does not answer: connections in use are given up", connections=len(silent))
        for record in silent:
            driver, _ = self._in_use[record]
            if not answered:
                driver.terminate()
            timer = asyncio.get_running_loop().call_later(DOUBT_AFTER, self._doubt, record)
            self._in_use[record] = (driver, timer)

    async def _answers(self) -> bool:
        """Whether the server says anything; a refusal is an answer, too: then the kernel resets dead connections."""
        args, options = self._target
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                probe = await asyncpg.connect(*args, **{**options, "timeout": PROBE_TIMEOUT})
                await probe.close(timeout=1.0)
        except (TimeoutError, BlockingIOError):  # the latter: the backlog of a Unix socket is full
            return False
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return True
        return True


def keep_alive(found: Any) -> None:
    """Have the kernel end the connection of a TCP socket whose peer has been gone for some 25 s."""
    if found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
        return
    # asyncio's and uvloop's wrapper of a socket may not set options; a duplicate of its descriptor shares them.
    with socket.socket(fileno=socket.dup(found.fileno())) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            if hasattr(socket, name):
                same.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def is_outage(error: BaseException) -> bool:
    """Whether an error says that the database is unavailable, and nothing about the statement."""
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
