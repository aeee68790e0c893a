import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from api.app import create_app
from settings import Settings
from tests.databases import WITH_TABLES, create_database
from tests.serving import without_a_socket
from tests.support import Kit
from worker import Client, registry


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """The application without a socket, its lifespan running."""
    async with without_a_socket(create_app(settings)) as http:
        yield http


@pytest.fixture
def settings_for(tmp_path: Path) -> Callable[..., Settings]:
    def make(**values: object) -> Settings:
        return Settings(data_dir=tmp_path, **values)  # type: ignore[arg-type]  # the test knows the fields

    return make


@pytest.fixture(scope="session")
def tables(database_url: str) -> str:
    """The URL of a database with all our tables."""
    return asyncio.run(create_database(database_url, WITH_TABLES, "api"))


@pytest.fixture
async def http(settings_for: Callable[..., Settings], redis_url: str, tables: str) -> AsyncIterator[httpx.AsyncClient]:
    # Tests use queues of their own, which nobody declares.
    async with serving(settings_for(REDIS_URL=redis_url, DATABASE_URL=tables, open_queues=True)) as opened:
        yield opened


@pytest.fixture
def jobs(client: Client, queue: str) -> Kit:
    """The service's own jobs, to be run by the test's workers."""
    return Kit(client, registry, queue)
