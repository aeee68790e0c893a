"""The jobs of a process in which `EMBARQ_INLINE` is on: one queue for all of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache

from worker.client.sync import SyncClient
from worker.core import wire
from worker.core.config import WorkerConfig
from worker.core.inline_mode import NOWHERE
from worker.definition.registry import Registry, registry
from worker.inline.client import InlineClient
from worker.inline.queue import InlineQueue
from worker.settings import Settings
from worker.settings.project import find_project


def client_for(home: object) -> InlineClient:
    """A client that runs the jobs of a registry; others are known where they were declared.

    Raises:
        SettingsError: a variable has a value that is not allowed.
        ProjectError: the project in the current folder cannot be run as it is.
    """
    jobs = home if isinstance(home, Registry) else registry
    return InlineClient(jobs, _queue(), max_arguments=_settings().max_arguments)


@asynccontextmanager
async def open_client(max_arguments: int = wire.LARGEST) -> AsyncIterator[InlineClient]:
    """A client that closes on leaving the resources that its jobs opened in this loop; raises as `client_for`."""
    queue = _queue()
    try:
        yield InlineClient(registry, queue, max_arguments=max_arguments)
    finally:
        await queue.close()


@cache
def sync_client() -> SyncClient:
    """A client for callers that cannot await; jobs run in a thread of its own. Raises as `client_for`."""
    return SyncClient(NOWHERE, max_arguments=_settings().max_arguments)


@cache
def _queue() -> InlineQueue:
    return InlineQueue(_config(_settings()))


@cache
def _settings() -> Settings:
    return find_project().load_settings()


def _config(settings: Settings) -> WorkerConfig:
    """A worker's configuration for jobs that declare nothing themselves."""
    return WorkerConfig(
        max_tries=settings.max_tries,
        soft_timeout=settings.soft_timeout,
        timeout=settings.timeout,
        cancel_grace=settings.cancel_grace,
        result_ttl=settings.result_ttl,
        max_result=settings.max_result,
    )
