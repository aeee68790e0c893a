"""Connections to Redis: how they are made from a URL, and which of redis-py's errors mean `unavailable`."""

import asyncio
import contextlib
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import hiredis
import redis
import redis.exceptions as errors
from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection
from redis.typing import EncodableT

from worker.errors import BrokerUnavailable

# Answers of a server that lives but cannot do its work: its disk is full, it has too few replicas, a script runs.
AWAY_CODES = ("MISCONF", "NOREPLICAS", "BUSY", "TRYAGAIN", "UNBLOCKED", "OOM", "READONLY", "LOADING")

COMMAND_TIMEOUT = 5.0
CONNECT_TIMEOUT = 2.0

AWAY = (
    errors.ConnectionError,  # with BusyLoadingError
    errors.TimeoutError,
    errors.ReadOnlyError,
    errors.OutOfMemoryError,
    errors.ClusterDownError,
    errors.MasterDownError,
    ConnectionError,
    TimeoutError,
)


class QuickConnection(AbstractConnection):
    """Does what redis-py 5 does for every command, in less time, and without `asyncio.wait_for`, which on Python 3.11
    swallows a cancellation that comes as it ends."""

    def pack_command(self, *args: EncodableT) -> list[bytes]:
        """A command as bytes; names of two words and values of other types go redis-py's way."""
        if " " not in str(args[0]):
            with contextlib.suppress(TypeError):
                return [hiredis.pack_command(args)]  # type: ignore[arg-type]  # its stub knows one argument only
        return list(super().pack_command(*args))

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        """Write a command. What the socket does not take stays with the transport: the wait for the answer, which has a
        time limit, covers it."""
        if not self.is_connected:
            await self.connect()  # type: ignore[no-untyped-call]  # redis-py's
        writer = self._writer
        if writer is None or writer.transport.is_closing():
            await self.disconnect(nowait=True)
            raise errors.ConnectionError("the connection was closed")
        if isinstance(command, str):
            command = command.encode()
        writer.writelines([command] if isinstance(command, bytes) else command)

    async def can_read_destructive(self) -> bool:
        """Whether the other side has closed, seen without a read; the pool then connects anew. No answer is ever left
        to read: a command that is broken off takes its connection with it."""
        return self._reader is None or self._reader.at_eof()


class QuickTcpConnection(QuickConnection, Connection):
    """Over TCP."""


class QuickTlsConnection(QuickConnection, SSLConnection):
    """Over TLS."""


class QuickSocketConnection(QuickConnection, UnixDomainSocketConnection):
    """Over a socket of this machine."""


CONNECTIONS = {"redis": QuickTcpConnection, "rediss": QuickTlsConnection, "unix": QuickSocketConnection}


class Pool(ConnectionPool):
    """At most `max_connections` at once; who comes later waits up to `timeout` seconds. What redis-py's blocking pool
    does with a lock, a timer and an event for every command, only where somebody has to wait."""

    def __init__(self, *, max_connections: int, timeout: float, **options: Any) -> None:
        super().__init__(max_connections=max_connections, **options)
        self._free = asyncio.Semaphore(max_connections)
        self._timeout = timeout

    async def get_connection(self, *_: object, **__: object) -> AbstractConnection:
        """A connection that is ready for a command.

        Raises:
            redis.exceptions.ConnectionError: the server is away, or no connection came free in time.
        """
        if self._free.locked():
            await self._wait()
        else:
            await self._free.acquire()
        connection: AbstractConnection = self.get_available_connection()  # type: ignore[no-untyped-call]  # redis-py's
        try:
            await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await self._free.acquire()
        except TimeoutError as error:
            raise errors.ConnectionError(f"no connection came free within {self._timeout} s") from error

    async def release(self, connection: AbstractConnection) -> None:
        """Give a connection back."""
        self._in_use_connections.remove(connection)
        self._available_connections.append(connection)
        self._free.release()


def make_pool(url: str, *, size: int = 50, verify_tls: bool = True) -> Pool:
    """A pool of at most `size` connections; a caller waits up to 5 s for a free one.

    `verify_tls=False` accepts the self-signed certificates of Heroku's `rediss://` servers.
    """
    options = _options(url, COMMAND_TIMEOUT, verify_tls)
    pool = Pool.from_url(url, max_connections=size, timeout=COMMAND_TIMEOUT, **options)
    pool.connection_class = CONNECTIONS[url.partition(":")[0]]
    return pool


def thread_client(url: str, *, timeout: float, verify_tls: bool = True) -> redis.Redis:
    """A client for one thread; `timeout`, in seconds, bounds every command."""
    client: redis.Redis = redis.Redis.from_url(url, max_connections=1, **_options(url, timeout, verify_tls))
    return client


def _options(url: str, timeout: float, verify_tls: bool) -> dict[str, Any]:
    options: dict[str, Any] = {"socket_timeout": timeout}
    if not url.startswith("unix:"):
        options |= {"socket_connect_timeout": min(timeout, CONNECT_TIMEOUT), "socket_keepalive": True}
    if url.startswith("rediss:") and not verify_tls:
        options |= {"ssl_cert_reqs": ssl.CERT_NONE, "ssl_check_hostname": False}
    return options


def blocking_connection(pool: Pool) -> Redis:
    """A client on one connection of its own, for commands that wait: replies may take as long as they like. Used as
    `async with`, which closes it."""
    options = {**pool.connection_kwargs, "socket_timeout": None}
    alone = Pool(connection_class=pool.connection_class, max_connections=2, timeout=COMMAND_TIMEOUT, **options)
    return Redis.from_pool(alone)


@contextmanager
def unavailable_when_away() -> Iterator[None]:
    """Turn every error that means "Redis cannot serve this now" into `BrokerUnavailable`."""
    try:
        yield
    except AWAY as error:
        raise BrokerUnavailable(f"Redis is not available: {error or type(error).__name__}") from error
    except errors.ResponseError as error:
        if not str(error).startswith(AWAY_CODES):
            raise
        raise BrokerUnavailable(f"Redis cannot serve this now: {error}") from error
