"""From the URL of Redis to connections: a pool for an event loop, a client for a thread."""

import contextlib
import math
import os
from functools import lru_cache
from typing import Any

import redis
import redis.exceptions as errors
from redis.asyncio import Connection, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import RedisSSLContext

from worker.broker.address import check_redis_url, checks_hostname
from worker.broker.availability import says_demoted
from worker.broker.pool import Pool, QuickConnection

NOT_VERIFIED = {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
COMMAND_TIMEOUT = 5.0
CONNECT_TIMEOUT = 2.0
BLOCKING_TIMEOUT = 15.0  # for the answer to a command that blocks for up to ten seconds


class QuickTcpConnection(QuickConnection, Connection):
    """Over TCP."""


class QuickTlsConnection(QuickConnection, SSLConnection):
    """Over TLS. Connections with the same rules share what reads all authorities of the system: that takes 40 ms, on a
    busy machine a second, in which the event loop stands still."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        own = self.ssl_context
        rules = tuple(getattr(own, name) for name in own.__slots__ if name != "context")
        self.ssl_context = _shared(rules, tuple(_changed(file) for file in (own.keyfile, own.certfile, own.ca_certs)))


@lru_cache(maxsize=16)
def _shared(rules: tuple[Any, ...], _changed: tuple[int | None, ...]) -> RedisSSLContext:
    """One for the same rules and files, until one of those is replaced."""
    keyfile, certfile, cert_reqs, *others = rules
    shared = RedisSSLContext(keyfile, certfile, None, *others)
    shared.cert_reqs = cert_reqs  # by now no word
    return shared


def _changed(file: str | None) -> int | None:
    """When a file was written; None where it is not there, which whoever reads it says."""
    with contextlib.suppress(OSError):
        return None if file is None else os.stat(file).st_mtime_ns
    return None


class QuickSocketConnection(QuickConnection, UnixDomainSocketConnection):
    """Over a Unix domain socket."""


CONNECTIONS = {"redis": QuickTcpConnection, "rediss": QuickTlsConnection, "unix": QuickSocketConnection}


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


def blocking_pool(pool: Pool) -> Pool:
    """For replies that take up to ten seconds, from the server of `pool`: one connection that blocks, and room for its
    successor where that has broken."""
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
    """A client on connections of its own, for commands that block for up to ten seconds. Close it with `aclose()`, or
    use it as `async with`."""
    return Redis.from_pool(blocking_pool(pool))


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
