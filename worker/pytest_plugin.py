"""Fixtures for tests of one's own jobs. Pytest loads this wherever Embarq is installed, so what they need is imported
by who asks for them."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

try:
    from pytest_asyncio import fixture as async_fixture
except ImportError:  # then another plugin runs coroutines, as anyio's does, or nobody asks for what follows
    async_fixture = pytest.fixture  # type: ignore[assignment]  # used without arguments, both are the same

if TYPE_CHECKING:
    from worker.definition.registry import Registry
    from worker.testing.kit import Kit


@pytest.fixture(scope="session")
def embarq_redis_url() -> "Iterator[str]":
    """The Redis of the tests: the one at `REDIS_URL`, or a private server for as long as the tests run."""
    url = os.environ.get("REDIS_URL")
    if url:
        from worker.core.variables import is_production  # noqa: PLC0415

        if is_production(os.environ):
            told = "this is production, by EMBARQ_ENV or DYNO: tests do not run on its Redis; "
            pytest.fail(f"{told}unset REDIS_URL, or set EMBARQ_ENV=development if it is one for tests")
        yield url
        return
    from worker.dev import private_redis  # noqa: PLC0415

    with TemporaryDirectory(prefix="embarq-") as folder, private_redis(Path(folder)) as private:
        yield private


@pytest.fixture(scope="session")
def embarq_registry(pytestconfig: pytest.Config) -> "Registry":
    """Where the jobs are registered. Those that the project names, in pytest's root folder, are imported first."""
    from worker.connecting import import_jobs  # noqa: PLC0415
    from worker.definition.registry import registry  # noqa: PLC0415

    import_jobs(pytestconfig.rootpath, registry)
    return registry


@async_fixture
async def embarq(embarq_redis_url: str, embarq_registry: "Registry") -> "AsyncIterator[Kit]":
    """A client and queues of the test's own. Jobs that it queues run when it says `await embarq.drain()`."""
    import structlog  # noqa: PLC0415

    from worker.observability.logs import hand_to_logging  # noqa: PLC0415
    from worker.testing.kit import Kit  # noqa: PLC0415

    if not structlog.is_configured():  # then pytest shows the log of a test that fails
        hand_to_logging()
    async with Kit.open(embarq_redis_url, embarq_registry) as kit:
        yield kit
