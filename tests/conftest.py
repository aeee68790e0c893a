"""Real servers for all tests: a private Redis and a private Postgres, each in a folder of its own."""

import contextlib
import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support import Kit
from worker import Client, Registry
from worker.embedded import EmbeddedError, private_postgres, private_redis, redis_program, wheel_redis_program
from worker.observability.logs import configure_logs

for name in list(os.environ):
    if name.startswith("EMBARQ_") or name in {"REDIS_URL", "DATABASE_URL", "PORT", "WEB_CONCURRENCY"}:
        del os.environ[name]

configure_logs("INFO", as_json=False)


def redis_programs() -> list[Path]:
    """The server on PATH and the bundled one, where both are there."""
    programs = {redis_program()}
    with contextlib.suppress(EmbeddedError):
        programs.add(wheel_redis_program())
    return sorted(programs)


@pytest.fixture(scope="session")
def servers() -> Iterator[Path]:
    # Postgres keeps its socket here, and a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="embarq-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session", params=redis_programs(), ids=lambda program: program.name)
def redis_url(request: pytest.FixtureRequest, servers: Path) -> Iterator[str]:
    with private_redis(servers / request.param.name, program=request.param) as url:
        yield url


@pytest.fixture(scope="session")
def database_url(servers: Path) -> Iterator[str]:
    with private_postgres(servers / "postgres") as url:
        yield url


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    async with Client.open(redis_url) as opened:
        yield opened


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
