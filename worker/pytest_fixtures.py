"""The content of the pytest plugin's fixtures; not in the plugin, as pytest loads that wherever Embarq is installed."""

import os
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import structlog

from worker.connecting import import_jobs
from worker.core.variables import is_production
from worker.definition.registry import Registry, registry
from worker.dev import private_redis
from worker.observability.logs import hand_to_logging
from worker.testing.kit import Kit


@contextmanager
def redis_of_tests() -> Iterator[str]:
    """The Redis at `REDIS_URL`, or a private server meanwhile."""
    url = os.environ.get("REDIS_URL")
    if url:
        if is_production(os.environ):
            told = "tests must not run on the Redis of production, which this is by EMBARQ_ENV or DYNO: "
            pytest.fail(f"{told}unset REDIS_URL, or set EMBARQ_ENV=development if it is one for tests")
        yield url
        return
    with TemporaryDirectory(prefix="embarq-") as folder, private_redis(Path(folder)) as private:
        yield private


def registry_of_project(folder: Path) -> Registry:
    """The registry of the jobs, after importing the modules that the project of a folder names."""
    import_jobs(folder, registry)
    return registry


def opened_kit(url: str, registry: Registry) -> AbstractAsyncContextManager[Kit]:
    """A kit whose log pytest captures, and shows for a test that fails."""
    if not structlog.is_configured():
        hand_to_logging()
    return Kit.open(url, registry)
