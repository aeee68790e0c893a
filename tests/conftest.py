"""Real servers for all tests: a private Redis and a private Postgres, each in a folder of its own."""

import contextlib
import os
import signal
import socket
import tempfile
import uuid
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.databases import EMPTY, WITH_TABLES, copy_data, new_database
from tests.support import Kit, free_port
from worker import Client, Registry
from worker.dev import EmbeddedError, private_postgres, private_redis, redis_program, wheel_redis_program
from worker.observability.logs import configure_logs

for name in list(os.environ):
    if name.startswith(("EMBARQ_", "MAKE")) or name in {"REDIS_URL", "DATABASE_URL", "PORT", "WEB_CONCURRENCY", "DYNO"}:
        del os.environ[name]

# A shell that starts us in the background has Ctrl-C ignored, and the commands under test would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

configure_logs("INFO", as_json=False)

RUN = pytest.StashKey[str]()

# What needs none of these, in none of these folders, starts no server and no process, and writes no file.
NOT_FAST = {"servers", "postgres", "tmp_path", "tmp_path_factory"}
NOT_FAST_FOLDERS = ("chaos", "cli", "documentation", "flow", "hostile", "install", "typing", "worker/dev")


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


def pytest_configure(config: pytest.Config) -> None:
    """A folder that all processes of a test run share."""
    given = getattr(config, "workerinput", {}).get("run")
    if given is None:
        own = tempfile.TemporaryDirectory(prefix="embarq-")
        config.add_cleanup(own.cleanup)
    config.stash[RUN] = given or own.name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is fast."""
    here = Path(__file__).parent
    for item in items:
        is_elsewhere = any(item.path.is_relative_to(here / folder) for folder in NOT_FAST_FOLDERS)
        if not is_elsewhere and NOT_FAST.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("fast")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["run"] = node.config.stash[RUN]


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
def database_url(servers: Path, pytestconfig: pytest.Config) -> Iterator[str]:
    folder = servers / "postgres"
    copy_data(Path(pytestconfig.stash[RUN]), folder)
    with private_postgres(folder) as url:
        yield url


@pytest.fixture
async def fresh_database(database_url: str) -> AsyncIterator[AsyncEngine]:
    """A database without tables."""
    async with new_database(database_url, EMPTY) as engine:
        yield engine


@pytest.fixture
async def migrated(database_url: str) -> AsyncIterator[AsyncEngine]:
    """A database with all our tables."""
    async with new_database(database_url, WITH_TABLES) as engine:
        yield engine


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
