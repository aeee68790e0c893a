"""`embarq api`: the project's application, or the engine's own, under uvicorn."""

import contextlib
import errno
import os
import signal
import socket
import sys
import threading
import time

import structlog
import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from worker.cli.run import start
from worker.cli.servers import servers_for_api
from worker.dev.banner import address, example
from worker.dev.ports import PortError, bind, reason
from worker.discovery import discover
from worker.parent import Parent, parent_of
from worker.project import find_project
from worker.registry import registry
from worker.settings import refuse
from worker.stopping import NOW

logger = structlog.stdlib.get_logger("embarq.api")

COMMAND = "embarq api"
BETWEEN_SIGNALS = 0.3


def serve_api(host: str | None, port: int | None, sockets: str | None, supervisor: int | None) -> None:
    """Serve until SIGTERM or Ctrl-C. `sockets`: the numbers of bound ones that a parent has left open, by commas.

    Raises:
        SettingsMissing: something is not set without which it must not serve.
        ServerTooOld: Redis cannot run our scripts.
        DefinitionError: a job is declared wrongly; said once, before there are processes that would all say it.
        PortError: another process has the port.
    """
    if host is not None:
        os.environ["EMBARQ_HOST"] = host  # the application reads it again, in each of its processes
    settings, parent = start(), parent_of(supervisor)
    refuse([*settings.problems(), *settings.api_problems()])
    if parent is not None:
        threading.Thread(target=_follow, args=(parent,), name="parent", daemon=True).start()
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
            _serve(config, bound, address(host, port), parent)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:  # somebody else was about to take it, too, and listens first
                raise PortError(reason(error, host, port, COMMAND)) from error
            raise


class _Server(uvicorn.Server):
    """Says when it answers and when it stops, in our words."""

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


def _serve(config: uvicorn.Config, bound: list[socket.socket], url: str, parent: Parent | None) -> None:
    if config.workers > 1:
        logger.info("api starts", address=url, processes=config.workers, pid=os.getpid())
        if parent is not None:
            parent.tell_ready(example(registry))  # as good as it is: its processes are uvicorn's
        for each in bound:
            each.set_inheritable(True)
        Multiprocess(config, sockets=bound).run()
        return
    server = _Server(config)
    server.address, server.parent = url, parent
    with contextlib.suppress(KeyboardInterrupt):
        server.run(bound)
    if not server.started:
        sys.exit(STARTUP_FAILURE)


def _follow(parent: Parent) -> None:
    """Do as the parent says, by the signals that uvicorn knows: the first one ends it in good order; a second, which
    must be SIGINT and must not come together with the first, at once. At the parent's end there is nobody to wait for.
    """
    while True:
        orders = parent.orders()
        os.kill(os.getpid(), signal.SIGTERM)
        if not orders or NOW in orders:
            time.sleep(BETWEEN_SIGNALS)
            os.kill(os.getpid(), signal.SIGINT)
            return
