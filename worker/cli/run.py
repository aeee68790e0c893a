"""What every command needs: settings, jobs, services, a client, an event loop."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import structlog

from worker.cli.env_file import read_env_file
from worker.client import Client
from worker.dev import redis_for
from worker.discovery import discover
from worker.inline_mode import NOWHERE, is_inline
from worker.observability.logs import configure_logs
from worker.project import find_project
from worker.registry import registry
from worker.settings import LogFormat, Settings, refuse
from worker.variables import misspelt

if sys.platform == "win32":
    from asyncio import run as run_loop
else:
    from uvloop import run as run_loop

T = TypeVar("T")
logger = structlog.stdlib.get_logger("embarq.settings")


def start() -> Settings:
    """Find the project in the current folder, read its settings and set up logs.

    Raises:
        SettingsError: a value is not allowed, or contradicts another.
    """
    of_file = read_env_file(Path.cwd())
    settings = find_project().load_settings()
    configure_logs(settings.log_level, as_json=settings.log_format is LogFormat.JSON)
    if of_file:
        logger.debug("variables read from .env", names=of_file)
    for each in misspelt(type(settings), os.environ):
        logger.warning("unknown setting", variable=each.variable, did_you_mean=each.meant)
    return settings


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine in the fastest loop there is."""
    return run_loop(work)


@asynccontextmanager
async def client_for(settings: Settings) -> AsyncIterator[Client]:
    """A client of the settings' Redis, bound to all discovered jobs; without REDIS_URL, of the private server."""
    discover(settings.jobs, registry)
    registry.route(settings.routes)
    async with connected(settings) as client:
        registry.bind(client)
        try:
            yield client
        finally:
            registry.bind(None)


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Client]:
    """A client alone, for those who only look: it comes sooner, and a module of jobs that is broken stops nobody.

    Raises:
        SettingsMissing: in production, REDIS_URL is not set.
        EmbarqError: EMBARQ_INLINE is on in production.
    """
    if is_inline():
        async with Client.open(NOWHERE, max_arguments=settings.max_arguments) as client:
            yield client
        return
    refuse(settings.redis_problems())
    stack = redis_for(settings.data_dir, settings.redis_url)
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
