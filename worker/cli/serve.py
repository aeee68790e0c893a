"""`embarq api`: the project's application, or the engine's own, under uvicorn."""

import contextlib
import errno
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass

import structlog
import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from worker.cli.run import start
from worker.cli.servers import servers_for_api
from worker.core.stopping import NOW
from worker.definition.discovery import discover
from worker.definition.example import example
from worker.definition.registry import registry
from worker.settings import refuse
from worker.settings.project import find_project
from worker.system.parent import Parent, parent_of
from worker.system.ports import PortError, api_address, bind, reason

logger = structlog.stdlib.get_logger("embarq.api")

COMMAND = "embarq api"
BETWEEN_SIGNALS = 0.3
MOST_SIGNALS = 5  # to processes, to which uvicorn may pass the first stop later than we do the second


def serve_api(host: str | None, port: int | None, sockets: str | None, supervisor: int | None) -> None:
    """Serve until SIGTERM or Ctrl-C. `sockets`: file descriptors of bound sockets that a parent has left open,
    separated by commas.

    Raises:
        SettingsMissing: something that it must not serve without is not set.
        ServerTooOld: Redis cannot run our scripts.
        DefinitionError: a job is declared wrongly; raised once, before there are processes that would all raise it.
        PortError: another process has the port.
    """
    if host is not None:
        os.environ["EMBARQ_HOST"] = host  # the application reads it again, in each of its processes
    settings, parent = start(), parent_of(supervisor)
    refuse([*settings.problems(), *settings.api_problems()])
    follower = None if parent is None else _Follower(parent)
    if follower is not None:
        threading.Thread(target=follower.run, name="parent", daemon=True).start()
    host, port = settings.host, port or settings.port
    if sockets is None:
        bound = bind(host, port, COMMAND)
    else:
        bound = [socket.socket(fileno=int(number)) for number in sockets.split(",")]
    with servers_for_api(settings):
        discover(settings.jobs, registry)
        config = uvicorn.Config(
            find_project().app,
            factory=True,
            workers=settings.web_concurrency,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=int(settings.grace),
        )
        try:
            _serve(config, bound, api_address(host, port), follower)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:  # with SO_REUSEADDR two may bind; the first to listen wins
                raise PortError(reason(error, host, port, COMMAND)) from error
            raise


class _Server(uvicorn.Server):
    """Logs when it answers and when it stops, as structured lines."""

    address = ""
    parent: Parent | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            logger.info("api answers", address=self.address, pid=os.getpid())
            if self.parent is not None:
                self.parent.tell_ready(example(registry))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        logger.info("api stops", connections=len(self.server_state.connections))
        await super().shutdown(sockets)


class _Processes(Multiprocess):
    """Uvicorn's processes, which can be ended at once."""

    def hurry(self) -> None:
        """Send SIGINT to each, as a terminal does: the second, or the first after SIGTERM, drops open requests."""
        for each in list(self.processes):
            if each.pid is not None:
                with contextlib.suppress(ProcessLookupError):  # it has ended
                    os.kill(each.pid, signal.SIGINT)


@dataclass(slots=True)
class _Follower:
    """Turns the parent's orders into the signals that uvicorn knows: the first one stops it gracefully; a second, which
    must be SIGINT and must not come together with the first, at once. When the parent has ended, nobody is waited for.

    `processes`: uvicorn's, where there are several, once they have started.
    """

    parent: Parent
    processes: _Processes | None = None

    def run(self) -> None:
        """Follow orders, up to the last one."""
        while True:
            orders = self.parent.orders()
            os.kill(os.getpid(), signal.SIGTERM)
            if not orders or NOW in orders:
                break
        for _ in range(MOST_SIGNALS):
            time.sleep(BETWEEN_SIGNALS)
            if self.processes is None:
                os.kill(os.getpid(), signal.SIGINT)
                return
            self.processes.hurry()


def _serve(config: uvicorn.Config, bound: list[socket.socket], url: str, follower: _Follower | None) -> None:
    if config.workers > 1:
        _serve_by_several(config, bound, url, follower)
        return
    server = _Server(config)
    server.address, server.parent = url, follower.parent if follower else None
    with contextlib.suppress(KeyboardInterrupt):
        server.run(bound)
    if not server.started:
        sys.exit(STARTUP_FAILURE)


def _serve_by_several(config: uvicorn.Config, bound: list[socket.socket], url: str, follower: _Follower | None) -> None:
    logger.info("api starts", address=url, processes=config.workers, pid=os.getpid())
    for each in bound:
        each.set_inheritable(True)
        each.listen(config.backlog)  # from now on connections queue in the kernel until the processes accept them
    processes = _Processes(config, sockets=bound)
    if follower is not None:
        follower.processes = processes
        follower.parent.tell_ready(example(registry))
    processes.run()
