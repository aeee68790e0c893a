"""Real servers for all tests: a private Redis and a private Postgres, each in a folder of its own."""

import asyncio
import contextlib
import os
import signal
import socket
import tempfile
import uuid
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.support import MIGRATIONS, Kit, free_port
from worker import Client, Registry
from worker.database import make_engine
from worker.database.migrate import migrate
from worker.dev import EmbeddedError, private_postgres, private_redis, redis_program, wheel_redis_program
from worker.observability.logs import configure_logs

for name in list(os.environ):
    if name.startswith(("EMBARQ_", "MAKE")) or name in {"REDIS_URL", "DATABASE_URL", "PORT", "WEB_CONCURRENCY", "DYNO"}:
        del os.environ[name]

# A shell that starts us in the background has Ctrl-C ignored, and the commands under test would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

configure_logs("INFO", as_json=False)


def sendable(value: Any) -> Any:
    """A report as pytest-xdist can send it. Tests of hostile texts print what UTF-8 cannot write."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {sendable(name): sendable(each) for name, each in value.items()}
    return type(value)(map(sendable, value)) if isinstance(value, (list, tuple)) else value


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    return sendable((yield))


def redis_programs() -> list[Path]:
    """The server on PATH and the bundled one, where both are there."""
    programs = {redis_program()}
    with contextlib.suppress(EmbeddedError):
        programs.add(wheel_redis_program())
    return sorted(programs)


@pytest.fixture(scope="session")
def servers() -> Iterator[Path]:
    # Servers have their sockets beside their data, and a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="embarq-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session", params=redis_programs(), ids=lambda program: program.name)
def redis_url(request: pytest.FixtureRequest, servers: Path) -> Iterator[str]:
    with private_redis(servers / request.param.name, program=request.param, port=free_port()) as url:
        yield url


@pytest.fixture(scope="session")
def database_url(servers: Path) -> Iterator[str]:
    with private_postgres(servers / "postgres") as url:
        yield url


@asynccontextmanager
async def new_database(server_url: str) -> AsyncIterator[AsyncEngine]:
    """An empty database on the server, with a pool."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    server = make_engine(server_url).execution_options(isolation_level="AUTOCOMMIT")
    async with server.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
    await server.dispose()
    engine = make_engine(make_url(server_url).set(database=name).render_as_string(hide_password=False))
    yield engine
    await engine.dispose()


@pytest.fixture
async def fresh_database(database_url: str) -> AsyncIterator[AsyncEngine]:
    """A database without tables."""
    async with new_database(database_url) as engine:
        yield engine


@pytest.fixture
async def migrated(fresh_database: AsyncEngine) -> AsyncEngine:
    """A database with all our tables."""
    url = str(fresh_database.url)
    await asyncio.to_thread(migrate, url, MIGRATIONS)
    return fresh_database


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    async with Client.open(redis_url) as opened:
        yield opened


@pytest.fixture
async def own_redis(tmp_path: Path) -> AsyncIterator[Client]:
    """A server of the test's own: it may fill shared keys, and a worker of all queues finds none of other tests."""
    with private_redis(tmp_path / "redis") as url:
        async with Client.open(url) as client:
            yield client


@pytest.fixture
def listening() -> Iterator[int]:
    """A port that this process listens on."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as the mail catcher does
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def queue() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def kit(client: Client, registry: Registry, queue: str) -> Iterator[Kit]:
    registry.bind(client)
    yield Kit(client, registry, queue)
    registry.bind(None)
