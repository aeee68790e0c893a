"""How a script gets its client: as the commands do, from the project in the current folder."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

from worker.client import Client
from worker.discovery import discover
from worker.project import find_project
from worker.registry import Registry, registry
from worker.settings import Settings


@asynccontextmanager
async def connect() -> AsyncIterator[Client]:
    """A client for the length of a script: `async with connect(): await send_email.enqueue(...)`.

    It is that of the Redis at `REDIS_URL`; without one, of the private server of the project in the current folder,
    which `embarq dev` runs there too, and which is started if it is not up. Meanwhile `.enqueue(...)` of all jobs uses
    it. A process that opens a client by itself does the same with `Client.open` and `registry.bind`.

    Raises:
        ProjectError, SettingsError: the project cannot be run as it is.
        DefinitionError: a module with jobs is missing, or a job is declared wrongly.
        EmbarqError: there is no Redis, and none can be started.
    """
    from worker.cli.run import connected  # noqa: PLC0415  # the commands know of private servers, this module does not

    settings = import_jobs(Path.cwd(), registry)
    async with connected(settings) as client:
        registry.bind(client)
        try:
            yield client
        finally:
            registry.bind(None)


def import_jobs(folder: Path, into: Registry) -> Settings:
    """Import the modules with jobs that the project of a folder names, or `jobs` if there is such a one: resources are
    known then before a job asks for them. A project that names none imports its jobs by itself.

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
