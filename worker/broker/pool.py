"""Connections to Redis: how they are made from a URL, and which of redis-py's errors mean `unavailable`."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis.exceptions as errors
from redis.asyncio import BlockingConnectionPool, Redis

from worker.errors import BrokerUnavailable

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


def make_pool(url: str, *, size: int = 50, verify_tls: bool = True) -> BlockingConnectionPool:
    """A pool of at most `size` connections; a caller waits up to 5 s for a free one.

    `verify_tls=False` accepts the self-signed certificates of Heroku's `rediss://` servers.
    """
    options: dict[str, Any] = {
        "max_connections": size,
        "timeout": COMMAND_TIMEOUT,
        "socket_timeout": COMMAND_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_keepalive": True,
    }
    if url.startswith("unix:"):
        for name in ("socket_connect_timeout", "socket_keepalive"):
            del options[name]
    if url.startswith("rediss:") and not verify_tls:
        options |= {"ssl_cert_reqs": ssl.CERT_NONE, "ssl_check_hostname": False}
    pool: BlockingConnectionPool = BlockingConnectionPool.from_url(url, **options)
    return pool


def blocking_connection(pool: BlockingConnectionPool) -> "Redis":
    """A client on one connection of its own, for commands that wait: replies may take as long as they like."""
    options = {**pool.connection_kwargs, "socket_timeout": None}
    alone = BlockingConnectionPool(connection_class=pool.connection_class, max_connections=2, **options)
    return Redis(connection_pool=alone)


@contextmanager
def unavailable_when_away() -> Iterator[None]:
    """Turn every error that means "Redis cannot serve this now" into `BrokerUnavailable`."""
    try:
        yield
    except AWAY as error:
        raise BrokerUnavailable(f"Redis is not available: {error or type(error).__name__}") from error
