"""The client of scripts and commands, from the settings of the project in the current folder."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from worker.client import Client
from worker.core.inline_mode import is_inline
from worker.definition.discovery import discover
from worker.definition.registry import Registry, registry
from worker.inline import process as inline_process
from worker.settings import Settings, refuse
from worker.settings.project import find_project


@asynccontextmanager
async def connect() -> AsyncIterator[Client]:
    """A client for the length of a script: `async with connect(): await send_email.enqueue(...)`.

    It connects to the Redis at `REDIS_URL`; without one, to the private server of the project in the current folder,
    the same as that of `embarq dev`, which is started if it does not run. Meanwhile `.enqueue(...)` of all jobs uses
    the client. A process that opens a client by itself does the same with `Client.open` and `registry.bind`.

    Raises:
        ProjectError, SettingsError: the project cannot be run as it is.
        DefinitionError: a module with jobs is missing, or a job is declared wrongly.
        EmbarqError: there is no Redis, and none can be started.
    """
    async with bound(import_jobs(Path.cwd(), registry)) as client:
        yield client


@asynccontextmanager
async def bound(settings: Settings) -> AsyncIterator[Client]:
    """A client of the settings' Redis, which `.enqueue(...)` of all jobs uses meanwhile; raises as `connected`."""
    async with connected(settings) as client:
        with registry.bound_to(client):
            yield client


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Client]:
    """A client alone, for queries: it starts faster, and does not fail where a module of jobs is broken.

    Raises:
        SettingsMissing: in production, REDIS_URL is not set.
        EmbarqError: EMBARQ_INLINE is on in production; or there is no Redis, and none can be started.
    """
    if is_inline():
        async with inline_process.open_client(settings.max_arguments) as client:
            yield client
        return
    refuse(settings.redis_problems())
    stack = _redis_of(settings)
    url = await asyncio.to_thread(stack.__enter__)
    try:
        opened = Client.open(
            url,
            size=settings.concurrency + 10,
            verify_tls=settings.redis_tls_verify,
            max_arguments=settings.max_arguments,
        )
        async with opened as client:
            yield client
    finally:
        await asyncio.to_thread(stack.__exit__, None, None, None)


def _redis_of(settings: Settings) -> AbstractContextManager[str]:
    """Private servers are loaded only where there may be one: this module is part of `from worker import Client`."""
    found: AbstractContextManager[str] = import_module("worker.dev").redis_for(settings.data_dir, settings.redis_url)
    return found


def import_jobs(folder: Path, into: Registry) -> Settings:
    """Import the modules with jobs that the project of a folder names, or `jobs` if there is such a module: their
    resources must be known before a job needs them. A project that names none imports its jobs by itself.

    Raises:
        ProjectError, SettingsError: the project cannot be run as it is.
        DefinitionError: a module is missing, or a job is declared wrongly.
    """
    settings = find_project(folder).load_settings()
    into.route(settings.routes)
    names_none = settings.jobs == Settings.model_fields["jobs"].default
    if not names_none or find_spec("jobs") is not None:
        discover(settings.jobs, into)
    return settings
