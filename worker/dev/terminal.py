"""`embarq dev`: the private servers, the API and a worker, all in one terminal, started and stopped together."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Collection, Sequence

from worker.core.errors import EmbarqError
from worker.database.migrate import migrate
from worker.dev import postgres_for, redis_for
from worker.dev.environment import environment_of_children, generated_key
from worker.dev.ports import Moved, Reserved, moved
from worker.dev.reload import Watched, watch
from worker.dev.screen import Screen, ScreenStream
from worker.dev.session import Session
from worker.dev.stops import Stage, Stops
from worker.observability.colours import wants_colour
from worker.observability.logs import configure_logs
from worker.runtime.supervisor import TICK
from worker.settings import LogFormat, Settings
from worker.settings.project import Project, find_project
from worker.system.ports import holder


def run_all(settings: Settings, *, reload: bool, of_file: Collection[str] = ()) -> int:
    """Run until Ctrl-C, or a closed terminal, or until a child fails; returns the exit code. `reload`: whether a change
    of the project's code restarts the API and the worker. `of_file`: variables that are set by `.env`.

    Raises:
        PortError: a port is taken; nothing was started then.
        EmbarqError: a private server, or a migration, failed.
    """
    command = "make run" if "MAKELEVEL" in os.environ else "embarq dev"
    port = Reserved(settings.host, settings.port, command)
    port.take()
    others = moved(settings)
    try:
        return asyncio.run(_run(settings, port, others, of_file, reload=reload))
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done: one more Ctrl-C must not print a traceback


async def _run(
    settings: Settings, port: Reserved, others: Sequence[Moved], of_file: Collection[str], *, reload: bool
) -> int:
    began, project, stops = time.monotonic(), find_project(), Stops(settings.grace)
    stops.listen()
    screen, servers = _open_screen(settings, stops), contextlib.ExitStack()
    for each in others:
        screen.say(f"port {each.taken} is taken by {holder(each.taken)}: {each.variable} is {each.port} this time")
    try:
        starting = asyncio.create_task(asyncio.to_thread(_start_servers, servers, settings, project))
        urls = await _unless_killed(starting, stops, screen)
        if stops.stage is not Stage.SERVING:
            return 0
        fixed = urls | {"PORT": str(settings.port)}  # which is bound already, whatever `.env` says later
        environment = environment_of_children(project, of_file, fixed, others, in_colour=screen.in_colour)
        key = generated_key(settings)
        for value in key.values():
            screen.say(
                f"other machines reach {settings.host}: send `Authorization: Bearer {value}`, the key of this run"
            )
        session = Session(screen, stops, settings, environment | key, port, reload, began)
        async with _watched(session, project):
            return await session.run()
    finally:
        await asyncio.to_thread(servers.close)
        screen.close()


def _open_screen(settings: Settings, stops: Stops) -> Screen:
    """The screen, which also shows our own logs from now on."""
    loop = asyncio.get_running_loop()

    def nobody_looks() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: all has ended
            loop.call_soon_threadsafe(stops.nobody_looks)

    screen = Screen(sys.stdout, in_colour=wants_colour(sys.stdout), on_gone=nobody_looks)
    as_json = settings.log_format is LogFormat.JSON
    configure_logs(settings.log_level, as_json=as_json, stream=ScreenStream(screen))
    return screen


async def _unless_killed(starting: "asyncio.Task[dict[str, str]]", stops: Stops, screen: Screen) -> dict[str, str]:
    """The result of starting the servers; nothing if a stop is requested. The start cannot be interrupted, except by
    ending this process, which releases their locks."""
    is_told = False
    while not starting.done():
        await asyncio.wait({starting}, timeout=TICK)
        if stops.stage is not Stage.SERVING and not is_told:
            is_told = True
            screen.say("stopping as soon as the servers have started")
        if stops.stage is Stage.KILL:
            os._exit(1)
    if stops.stage is not Stage.SERVING and isinstance(starting.exception(), EmbarqError):
        return {}  # why they do not start no longer matters
    return starting.result()


def _start_servers(servers: contextlib.ExitStack, settings: Settings, project: Project) -> dict[str, str]:
    """Start those without a variable, and migrate the database; the variables for both."""
    redis_url = servers.enter_context(redis_for(settings.data_dir, settings.redis_url))
    database_url = servers.enter_context(postgres_for(settings.data_dir, settings.database_url))
    migrate(database_url, project.migration_folders())
    return {"REDIS_URL": redis_url, "DATABASE_URL": database_url}


@contextlib.asynccontextmanager
async def _watched(session: Session, project: Project) -> AsyncIterator[None]:
    """Report changes to the session, if it reloads."""
    if not session.reload:
        yield
        return
    watching = asyncio.create_task(watch(Watched.of(project, session.settings.jobs), session.tell))
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait([watching])
