"""The servers that long-running commands need: those of the settings, or private ones in development."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from worker.broker.queue_selection import Service
from worker.cli.loading import load
from worker.cli.run import run
from worker.client import Client
from worker.core.errors import BrokerUnavailable, EmbarqError, ServerTooOld
from worker.core.inline_mode import is_inline
from worker.definition.discovery import discover
from worker.definition.registry import Registry, registry
from worker.definition.resources import is_of_database
from worker.dev import postgres_for, redis_for
from worker.settings import Settings
from worker.settings.project import find_project

LOOK_LIMIT = 5.0


@contextmanager
def servers_for_jobs(settings: Settings, queues: Sequence[str]) -> Iterator[Settings]:
    """The settings of a process that runs jobs of these queues, with the addresses of all servers that they need.

    In development, private servers stand in for what is not set, as under `embarq dev`; the environment names them in
    the block, for the jobs' resources and for processes that are started there.

    Raises:
        EmbarqError: a job needs a database, and in production none is set.
        ServerTooOld: Redis cannot run our scripts.
        EmbeddedError: a private server does not start.
    """
    with ExitStack() as stack:
        found = {"REDIS_URL": stack.enter_context(redis_for(settings.data_dir, settings.redis_url))}
        refuse_old_redis(settings, found["REDIS_URL"])
        if settings.database_url is None and _asks_for_database(settings, queues):
            found["DATABASE_URL"] = stack.enter_context(_private_tables(settings))
        stack.enter_context(_environment(found))
        yield find_project().load_settings()


@contextmanager
def servers_for_api(settings: Settings) -> Iterator[Settings]:
    """As `servers_for_jobs`, for a process that only queues jobs: in production it runs without what is not set."""
    if settings.development and not is_inline():
        with servers_for_jobs(settings, ()) as served:
            yield served
        return
    if settings.redis_url is not None:
        refuse_old_redis(settings, settings.redis_url)
    yield settings


def refuse_old_redis(settings: Settings, url: str) -> None:
    """Check the version of Redis before anything starts that needs it. Where it is unavailable now, the first script
    that runs finds out.

    Raises:
        ServerTooOld: it cannot run our scripts.
    """
    run(_refuse_old(settings, url))


async def _refuse_old(settings: Settings, url: str) -> None:
    with suppress(BrokerUnavailable, TimeoutError):
        async with Client.open(url, size=1, verify_tls=settings.redis_tls_verify) as client:
            async with asyncio.timeout(LOOK_LIMIT):
                server = await client.inspector.server()
            if server.problem is not None:
                raise ServerTooOld(server.version)


def _asks_for_database(settings: Settings, queues: Sequence[str]) -> bool:
    """Whether jobs may run here that need a database. In development all jobs count, as an option may change their
    queue; in production only those of the queues, as a worker may be meant for others."""
    discover(settings.jobs, registry)
    registry.route(settings.routes)
    names = jobs_with_database(registry, None if settings.development else Service.read(queues))
    if names and not settings.development:
        more = f" and {len(names) - 1} more" if names[1:] else ""
        raise EmbarqError(f"DATABASE_URL must be set, as the job {names[0]!r}{more} of these queues needs a database")
    return bool(names)


def jobs_with_database(jobs: Registry, service: Service | None) -> list[str]:
    """Names of jobs that need a database, or a session of one; with `service`, only of the queues that it serves."""
    return sorted(
        job.name
        for job in jobs
        if (service is None or service.serves_all or job.queue in service.queues)
        and any(map(is_of_database, job.schema.injected.values()))
    )


@contextmanager
def _private_tables(settings: Settings) -> Iterator[str]:
    """A private Postgres with our tables."""
    with postgres_for(settings.data_dir, None) as url:
        load("database.migrate").migrate(url, find_project().migration_folders())
        yield url


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
