"""What `worker/broker/pool.py` uses of redis-py's internals: a new version fails here, and not at night."""

import asyncio
import hashlib
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import redis
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.connection import AbstractConnection, ConnectionPool

from worker.broker.opening import CONNECTIONS, THREAD_CONNECTIONS, make_pool
from worker.broker.pool import QuickConnection

SignatureOf = dict[Callable[..., Any], str]

# Replaced or extended by ours: what calls them must go on calling them so.
SIGNATURES: SignatureOf = {
    AbstractConnection.connect: "(self)",
    AbstractConnection.disconnect: "(self, nowait=False)",
    AbstractConnection.read_response: (
        "(self, disable_decoding=False, timeout=None, *, disconnect_on_error=True, push_request=False)"
    ),
    AbstractConnection.send_packed_command: "(self, command, check_health=True)",
    AbstractConnection.pack_command: "(self, *args)",
    ConnectionPool.get_connection: "(self, command_name=None, *keys, **options)",
    ConnectionPool.release: "(self, connection)",
    ConnectionPool.make_connection: "(self)",
    ConnectionPool.get_available_connection: "(self)",
    redis.Connection.read_response: "(self, disable_decoding=False, *, disconnect_on_error=True, push_request=False)",
}

# Relied on, or done by ours in their stead: a change of what they do needs a look at `pool.py`.
CODE: dict[Callable[..., Any], str] = {
    AbstractConnection.connect: "16effd879758",
    AbstractConnection.disconnect: "29ae2c32f9e5",
    AbstractConnection.read_response: "9fa53cc04b51",
    AbstractConnection.send_packed_command: "a0e5fb29b411",
    AbstractConnection.send_command: "9b773c08aff8",
    ConnectionPool.get_available_connection: "a1da2d347310",
    ConnectionPool.release: "e5e83b4d47bc",
    ConnectionPool.disconnect: "15d906bb01a2",
    Redis.execute_command: "fcc7b8aba34d",
    Pipeline.execute: "6d59e5a4fb2d",
    Pipeline.reset: "14720b041f92",
}


def shape(function: Callable[..., Any]) -> str:
    """A digest of a function's source, whatever its layout."""
    return hashlib.sha256(" ".join(inspect.getsource(function).split()).encode()).hexdigest()[:12]


def parameters(function: Callable[..., Any]) -> str:
    """A function's signature without its types."""
    bare = [
        each.replace(annotation=inspect.Parameter.empty) for each in inspect.signature(function).parameters.values()
    ]
    return str(inspect.Signature(bare))


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda function: function.__qualname__)
def test_signatures_are_the_known_ones(function: Callable[..., Any]) -> None:
    found = parameters(function)
    assert found == SIGNATURES[function], (
        f"redis-py {redis.__version__} has changed {function.__qualname__}{found}: worker/broker/pool.py replaces it"
    )


@pytest.mark.parametrize("function", CODE, ids=lambda function: function.__qualname__)
def test_code_is_the_known_one(function: Callable[..., Any]) -> None:
    found = shape(function)
    assert found == CODE[function], (
        f"redis-py {redis.__version__} has changed what {function.__qualname__} does: see whether "
        f"worker/broker/pool.py still fits, then note {found!r} here"
    )


async def test_attributes_of_a_connection(redis_url: str) -> None:
    pool = make_pool(redis_url, size=2)
    connection = await pool.get_connection()
    try:
        assert connection.is_connected
        assert isinstance(connection._reader, asyncio.StreamReader)
        assert isinstance(connection._writer, asyncio.StreamWriter)
        assert callable(connection._parser.on_disconnect)
        assert (pool._in_use_connections, pool._available_connections) == ({connection}, [])
        connection.post("PING")
        assert await connection.read_response() == b"PONG"
        assert await connection.read_response(timeout=0.01) is None  # and it stays connected
        assert connection.is_ready
        await connection.disconnect()
        assert not connection.is_connected
    finally:
        await pool.release(connection)
        assert (pool._in_use_connections, pool._available_connections) == (set(), [connection])
        await pool.disconnect()


@pytest.mark.parametrize("scheme", ["redis", "rediss", "unix"])
async def test_every_kind_of_connection_has_what_is_used(scheme: str) -> None:
    """Attributes live in slots: one that goes is missed at once."""
    connection = CONNECTIONS[scheme]()
    assert isinstance(connection, QuickConnection)
    for name in ("_reader", "_writer", "_parser", "socket_timeout", "is_connected"):
        assert hasattr(connection, name), f"redis-py {redis.__version__} has no {name} any more"
    order = [kind.__name__ for kind in THREAD_CONNECTIONS[scheme].__mro__]
    assert order.index("ThreadConnection") == 1
