"""What every command needs: settings, jobs, services, a client, an event loop."""

import os
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import structlog

from worker.client import Client
from worker.connecting import bound
from worker.core.variables import misspelt
from worker.definition.discovery import discover
from worker.definition.registry import registry
from worker.observability.logs import configure_logs
from worker.settings import LogFormat, Settings
from worker.settings.env_file import read_env_file
from worker.settings.project import find_project

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
    """Run a command's coroutine in uvloop, or in asyncio's own loop where there is none."""
    return run_loop(work)


@asynccontextmanager
async def client_for(settings: Settings) -> AsyncIterator[Client]:
    """A client of the settings' Redis, bound to all discovered jobs; without REDIS_URL, of the private server."""
    discover(settings.jobs, registry)
    registry.route(settings.routes)
    async with bound(settings) as client:
        yield client
