"""Fixtures for tests of a project's jobs. Pytest loads this wherever Embarq is installed, so what they need is imported
when they are first used: `worker.pytest_fixtures`."""

from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

try:
    from pytest_asyncio import fixture as async_fixture
except ImportError:  # then another plugin runs coroutines, such as anyio's, or nobody uses the fixtures below
    async_fixture = pytest.fixture  # type: ignore[assignment]  # used without arguments, both are the same

if TYPE_CHECKING:
    from worker.definition.registry import Registry
    from worker.testing.kit import Kit


def _fixtures() -> Any:
    return import_module("worker.pytest_fixtures")


@pytest.fixture(scope="session")
def embarq_redis_url() -> "Iterator[str]":
    """The Redis of the tests: the one at `REDIS_URL`, or a private server for as long as the tests run."""
    with _fixtures().redis_of_tests() as url:
        yield url


@pytest.fixture(scope="session")
def embarq_registry(pytestconfig: pytest.Config) -> "Registry":
    """The registry of the jobs. The modules that the project in pytest's root folder names are imported first."""
    found: Registry = _fixtures().registry_of_project(pytestconfig.rootpath)
    return found


@async_fixture
async def embarq(embarq_redis_url: str, embarq_registry: "Registry") -> "AsyncIterator[Kit]":
    """A client and queues of the test's own. Jobs that it queues run when it calls `await embarq.drain()`."""
    async with _fixtures().opened_kit(embarq_redis_url, embarq_registry) as kit:
        yield kit
