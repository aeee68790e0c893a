"""Connections to Redis: how they are made from a URL, when they are replaced, which of redis-py's errors mean
`unavailable`. A test guards what is used of redis-py's internals."""

import asyncio
import contextlib
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import hiredis
import redis
import redis.exceptions as errors
from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection
from redis.typing import EncodableT

from worker.broker.address import check_redis_url, checks_hostname
from worker.core.errors import BrokerUnavailable, EmbarqError

# Errors of a server that lives but cannot serve: its disk is full, it has too few replicas, a script runs.
AWAY_CODES = ("MISCONF", "NOREPLICAS", "BUSY", "TRYAGAIN", "UNBLOCKED", "OOM", "READONLY", "LOADING", "MASTERDOWN")

# Errors of a server that is not, or soon will not be, the one that the URL's name resolves to: it was demoted (blocked
# clients get UNBLOCKED then), it lost its primary, or its replicas went over to another.
DEMOTED_CODES = ("READONLY", "UNBLOCKED", "MASTERDOWN", "NOREPLICAS")

NO_DATABASE = "DB index is out of range"

NOT_VERIFIED = {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
COMMAND_TIMEOUT = 5.0
CONNECT_TIMEOUT = 2.0
BLOCKING_TIMEOUT = 15.0  # for the answer to a command that blocks for up to ten seconds
SILENCE = 1.0  # seconds without an answer that make all connections suspect
EPOCH_AT_LEAST = 0.1  # seconds: no storm of connections while a name still resolves to a demoted server

AWAY = (
    errors.ConnectionError,  # with BusyLoadingError
    errors.TimeoutError,
    errors.ReadOnlyError,
    errors.OutOfMemoryError,
    errors.ClusterDownError,
    errors.InvalidResponse,
    errors.MasterDownError,
    ConnectionError,
    TimeoutError,
)


def says_demoted(error: BaseException) -> bool:
    """Whether an error says that another server is in charge now."""
    return isinstance(error, errors.ReadOnlyError | errors.MasterDownError) or (
        isinstance(error, errors.ResponseError) and str(error).startswith(DEMOTED_CODES)
    )


class Epoch:
    """Counts how often the server behind a URL turned out not to be the right one: it was demoted, or it fell silent. A
    connection that was made before is not used again: the next one goes to whatever the name resolves to then.
    """

    def __init__(self) -> None:
        self.number = 0
        self._ended_at = -math.inf

    def end(self, number: int) -> None:
        """A connection that was made in the epoch of this number must not be used any more, nor any other of it."""
        now = time.monotonic()
        if number == self.number and now >= self._ended_at + EPOCH_AT_LEAST:
            self.number += 1
            self._ended_at = now


class QuickConnection(AbstractConnection):
    """Does what redis-py 5 does for every command, in less time, and without `asyncio.wait_for`, which before Python
    3.12 swallows a cancellation that comes as it ends."""

    epoch = Epoch()  # of a connection that no pool of ours made
    made_in = 0
    silence = math.inf

    @property
    def is_ready(self) -> bool:
        """Whether a command may be sent: connected, in this epoch, and not closed by the other side."""
        return self._reader is not None and not self.is_stale and not self._reader.at_eof()

    @property
    def is_stale(self) -> bool:
        """Whether it may lead to another server than a new connection would."""
        return self.made_in != self.epoch.number

    async def connect(self) -> None:
        """Connect, if it is not."""
        if not self.is_connected:
            self.made_in = self.epoch.number
            await super().connect()  # type: ignore[no-untyped-call]  # redis-py's

    async def disconnect(self, nowait: bool = False) -> None:
        """Close at once: nobody needs what is still buffered, and a peer that hangs is not waited for."""
        self._parser.on_disconnect()
        writer, self._writer, self._reader = self._writer, None, None
        if writer is not None:
            writer.transport.abort()

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """The answer to a command. An error that says that the server was demoted, or a long silence, ends the
        epoch."""
        asked_at = time.monotonic()
        try:
            return await super().read_response(*args, **kwargs)
        except errors.ResponseError as error:
            if says_demoted(error):
                self.epoch.end(self.made_in)
            raise
        except (errors.TimeoutError, asyncio.CancelledError):
            if time.monotonic() > asked_at + self.silence:
                self.epoch.end(self.made_in)
            raise

    def post(self, *args: EncodableT) -> None:
        """Write a command without waiting. Nothing happens on a lost connection: whoever reads from it finds out."""
        if self._writer is not None and not self._writer.transport.is_closing():
            self._writer.writelines(self.pack_command(*args))

    def pack_command(self, *args: EncodableT) -> list[bytes]:
        """A command as bytes; names of two words and values of other types go redis-py's way."""
        if " " not in str(args[0]):
            with contextlib.suppress(TypeError):
                return [hiredis.pack_command(args)]  # type: ignore[arg-type]  # its stub knows one argument only
        return list(super().pack_command(*args))

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        """Write a command without `drain`. What the socket does not take stays in the transport's buffer: the wait for
        the answer, which has a time limit, covers it."""
        if not self.is_connected:
            await self.connect()
        writer = self._writer
        if writer is None or writer.transport.is_closing():
            await self.disconnect(nowait=True)
            raise errors.ConnectionError("the connection was closed")
        if isinstance(command, str):
            command = command.encode()
        writer.writelines([command] if isinstance(command, bytes) else command)


class QuickTcpConnection(QuickConnection, Connection):
    """Over TCP."""


class QuickTlsConnection(QuickConnection, SSLConnection):
    """Over TLS."""


class QuickSocketConnection(QuickConnection, UnixDomainSocketConnection):
    """Over a Unix domain socket."""


CONNECTIONS = {"redis": QuickTcpConnection, "rediss": QuickTlsConnection, "unix": QuickSocketConnection}


class Pool(ConnectionPool):
    """At most `max_connections` at once; further callers wait. redis-py's blocking pool takes a lock, a timer and an
    event for every command; this one does so only where a caller has to wait. `timeout`, in seconds, bounds the wait
    for a free connection and for its connecting."""

    def __init__(
        self,
        *,
        max_connections: int,
        timeout: float,
        epoch: Epoch | None = None,
        silence: float = SILENCE,
        **options: Any,
    ) -> None:
        """Pools that share an `epoch` leave a server together; `silence`, in seconds, of one connection ends it."""
        super().__init__(max_connections=max_connections, **options)
        self._free = asyncio.Semaphore(max_connections)
        self._timeout = timeout
        self._silence = silence
        self.epoch = epoch or Epoch()

    def make_connection(self) -> QuickConnection:
        """A new connection, not connected yet."""
        connection: QuickConnection = super().make_connection()  # type: ignore[no-untyped-call]  # redis-py's
        connection.epoch, connection.silence = self.epoch, self._silence
        return connection

    async def get_connection(self, *_: object, **__: object) -> QuickConnection:
        """A connection that is ready for a command.

        Raises:
            redis.exceptions.ConnectionError: the server is unavailable, or no connection became free in time.
        """
        if not self._free.locked():
            await self._free.acquire()
            connection = self._take()
            if connection.is_ready:
                return connection
            await self.release(connection)
        try:
            async with asyncio.timeout(self._timeout):
                return await self._connected()
        except TimeoutError as error:
            raise errors.ConnectionError(f"no connection became free within {self._timeout} s") from error

    def _take(self) -> QuickConnection:
        connection: QuickConnection = self.get_available_connection()  # type: ignore[no-untyped-call]  # redis-py's
        return connection

    async def _connected(self) -> QuickConnection:
        """Wait for a connection, and reconnect it where it is not ready."""
        await self._free.acquire()
        connection = self._take()
        try:
            if not connection.is_ready:
                await connection.disconnect()
                await connection.connect()
        except BaseException:
            await connection.disconnect()
            await self.release(connection)
            raise
        return connection

    async def release(self, connection: AbstractConnection) -> None:
        """Give a connection back. If it is of an earlier epoch, all idle ones of such are closed."""
        self._in_use_connections.remove(connection)
        self._available_connections.append(connection)
        self._free.release()
        if isinstance(connection, QuickConnection) and connection.is_stale:
            for idle in self._available_connections:
                if isinstance(idle, QuickConnection) and idle.is_stale:
                    await idle.disconnect()


def make_pool(url: str, *, size: int = 50, verify_tls: bool = True) -> Pool:
    """A pool of at most `size` connections; a caller waits up to 5 s for a free one.

    `verify_tls=False` accepts the self-signed certificates of Heroku's `rediss://` servers.

    Raises:
        EmbarqError: the URL does not name a database of a Redis.
    """
    check_redis_url(url)
    options = _options(url, COMMAND_TIMEOUT, verify_tls)
    pool = Pool.from_url(url, max_connections=size, timeout=COMMAND_TIMEOUT, **options)
    pool.connection_class = CONNECTIONS[url.partition(":")[0]]
    return pool


class ThreadConnection(redis.connection.AbstractConnection):
    """For a thread: closed when the server turns out to be demoted, so that the next command goes to another."""

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """The answer to a command."""
        try:
            return super().read_response(*args, **kwargs)  # type: ignore[no-untyped-call]  # redis-py's
        except errors.ResponseError as error:
            if says_demoted(error):
                self.disconnect()  # type: ignore[no-untyped-call]  # redis-py's
            raise


class ThreadTcpConnection(ThreadConnection, redis.Connection):
    """Over TCP."""


class ThreadTlsConnection(ThreadConnection, redis.SSLConnection):
    """Over TLS."""


class ThreadSocketConnection(ThreadConnection, redis.UnixDomainSocketConnection):
    """Over a Unix domain socket."""


THREAD_CONNECTIONS = {"redis": ThreadTcpConnection, "rediss": ThreadTlsConnection, "unix": ThreadSocketConnection}


def thread_client(url: str, *, timeout: float, verify_tls: bool = True) -> redis.Redis:
    """A client for one thread; `timeout`, in seconds, bounds every command."""
    options = _options(url, timeout, verify_tls) | {"connection_class": THREAD_CONNECTIONS[url.partition(":")[0]]}
    client: redis.Redis = redis.Redis.from_url(url, max_connections=1, **options)
    return client


def _options(url: str, timeout: float, verify_tls: bool) -> dict[str, Any]:
    options: dict[str, Any] = {"socket_timeout": timeout}
    if not url.startswith("unix:"):
        options |= {"socket_connect_timeout": min(timeout, CONNECT_TIMEOUT), "socket_keepalive": True}
    if url.startswith("rediss:"):
        options |= {"ssl_check_hostname": checks_hostname(url)} if verify_tls else NOT_VERIFIED
    return options


def blocking_pool(pool: Pool) -> Pool:
    """One connection of its own, to the server of `pool`, for replies that take up to ten seconds."""
    options = {**pool.connection_kwargs, "socket_timeout": BLOCKING_TIMEOUT}
    return Pool(
        connection_class=pool.connection_class,
        max_connections=2,
        timeout=COMMAND_TIMEOUT,
        epoch=pool.epoch,
        silence=math.inf,
        **options,
    )


def blocking_connection(pool: Pool) -> Redis:
    """A client on one connection of its own, for commands that block for up to ten seconds. Used as `async with`,
    which closes it."""
    return Redis.from_pool(blocking_pool(pool))


@contextmanager
def unavailable_when_away() -> Iterator[None]:
    """Turn every error that means "Redis cannot serve this now" into `BrokerUnavailable`."""
    try:
        yield
    except AWAY as error:
        raise BrokerUnavailable(f"Redis is not available: {error or type(error).__name__}") from error
    except errors.ResponseError as error:
        if NO_DATABASE in str(error):
            raise EmbarqError(
                f"the URL of Redis must end with the number of a database that it has: {error}"
            ) from error
        if not str(error).startswith(AWAY_CODES):
            raise
        raise BrokerUnavailable(f"Redis is not available: {error}") from error


@contextmanager
def nothing_of_another_type() -> Iterator[None]:
    """Leave the block where a key of ours holds another type, put there by somebody else: it counts as empty. The next
    script that uses the key sets it aside."""
    try:
        yield
    except errors.ResponseError as error:
        if "WRONGTYPE" not in str(error):
            raise
