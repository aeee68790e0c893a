"""`embarq dev`: the private servers, the API and a worker, all in one terminal, started and ended together."""

import asyncio
import contextlib
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator

from worker.database.migrate import migrate
from worker.dev import postgres_for, redis_for
from worker.dev.banner import KEY
from worker.dev.ports import Reserved, holder, others_for
from worker.dev.reload import Watched, watch
from worker.dev.screen import Screen, ScreenStream
from worker.dev.session import Session
from worker.dev.stops import Stage, Stops
from worker.errors import EmbarqError
from worker.observability.colours import wants_colour
from worker.observability.logs import configure_logs
from worker.project import Project, find_project
from worker.settings import LogFormat, Settings, variable_of
from worker.supervisor import TICK


def run_all(settings: Settings, *, reload: bool) -> int:
    """Run until Ctrl-C, or a closed terminal, or until a child fails; returns the exit code. `reload`: whether a change
    of the project's code restarts the API and the worker.

    Raises:
        PortError: a port is taken; nothing was started then.
        EmbarqError: it is production here, or a private server, or a migration, failed.
    """
    if not settings.development:
        raise EmbarqError("`embarq dev` is for development, and this is production: `embarq api` and `embarq worker`")
    command = "make run" if "MAKELEVEL" in os.environ else "embarq dev"
    port = Reserved(settings.host, settings.port, command)
    port.take()
    others = others_for(settings.further_ports, settings.model_fields_set)
    try:
        return asyncio.run(_run(settings, find_project(), port, others, reload=reload))
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done: one more Ctrl-C must not make a traceback


async def _run(settings: Settings, project: Project, port: Reserved, others: dict[str, int], *, reload: bool) -> int:
    began, loop, stops = time.monotonic(), asyncio.get_running_loop(), Stops(settings.grace)

    def nobody_looks() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: all has ended
            loop.call_soon_threadsafe(stops.nobody_looks)

    stops.listen()
    screen = Screen(sys.stdout, in_colour=wants_colour(sys.stdout), on_gone=nobody_looks)
    as_json = settings.log_format is LogFormat.JSON
    configure_logs(settings.log_level, as_json=as_json, stream=ScreenStream(screen))
    for field, other in others.items():
        taken = settings.further_ports[field]
        screen.say(f"port {taken} is taken by {holder(taken)}: {variable_of(field)} is {other} this time")
    servers = contextlib.ExitStack()
    try:
        starting = asyncio.create_task(asyncio.to_thread(_start_servers, servers, settings, project))
        urls = await _unless_killed(starting, stops, screen)
        if stops.stage is not Stage.SERVING:
            return 0
        environment = _environment(project, urls, others, in_colour=screen.in_colour) | _generated_key(settings, screen)
        session = Session(screen, stops, settings, environment, port, reload, began)
        async with _watched(session, project):
            return await session.run()
    finally:
        await asyncio.to_thread(servers.close)
        screen.close()


async def _unless_killed(starting: "asyncio.Task[dict[str, str]]", stops: Stops, screen: Screen) -> dict[str, str]:
    """What the start of the servers gives. It cannot be broken off: their locks end with this process, if need be."""
    is_told = False
    while not starting.done():
        await asyncio.wait({starting}, timeout=TICK)
        if stops.stage is not Stage.SERVING and not is_told:
            is_told = True
            screen.say("stopping as soon as the servers have started")
        if stops.stage is Stage.KILL:
            os._exit(1)
    return starting.result()


def _start_servers(servers: contextlib.ExitStack, settings: Settings, project: Project) -> dict[str, str]:
    """Start those that no variable names, and bring the tables up to date; the variables for both."""
    redis_url = servers.enter_context(redis_for(settings.data_dir, settings.redis_url))
    database_url = servers.enter_context(postgres_for(settings.data_dir, settings.database_url))
    migrate(database_url, project.migration_folders())
    return {"REDIS_URL": redis_url, "DATABASE_URL": database_url}


def _environment(project: Project, urls: dict[str, str], ports: dict[str, int], *, in_colour: bool) -> dict[str, str]:
    """That of the children; what they write goes through a pipe, and their lines are in colour if ours are."""
    environment = {
        **os.environ,
        **urls,
        "PYTHONUNBUFFERED": "1",
        **project.development,
        **{variable_of(field): str(port) for field, port in ports.items()},
    }
    environment.pop("NO_COLOR" if in_colour else "FORCE_COLOR", None)
    environment.setdefault("FORCE_COLOR" if in_colour else "NO_COLOR", "1")
    return environment


def _generated_key(settings: Settings, screen: Screen) -> dict[str, str]:
    """A key for this run, where other machines could do everything without one."""
    if not settings.is_exposed:
        return {}
    key = secrets.token_urlsafe(24)
    screen.say(f"other machines reach {settings.host}: send `Authorization: Bearer {key}`, the key of this run")
    return {KEY: key}


@contextlib.asynccontextmanager
async def _watched(session: Session, project: Project) -> AsyncIterator[None]:
    """Tell the session of changes, if it wants to know."""
    if not session.reload:
        yield
        return
    watching = asyncio.create_task(watch(Watched.of(project, session.settings.jobs), session.tell))
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait([watching])
