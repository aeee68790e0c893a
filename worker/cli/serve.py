"""`embarq api`: the project's application, or the engine's own, under uvicorn."""

import os

import uvicorn

from worker.cli.run import start
from worker.cli.servers import servers_for_api
from worker.discovery import discover
from worker.project import find_project
from worker.registry import registry
from worker.settings import refuse


def serve_api(host: str | None, port: int | None) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        SettingsMissing: something is not set without which it must not serve.
        ServerTooOld: Redis cannot run our scripts.
        DefinitionError: a job is declared wrongly; said once, before there are processes that would all say it.
    """
    if host is not None:
        os.environ["EMBARQ_HOST"] = host  # the application reads it again, in each of its processes
    settings = start()
    refuse([*settings.problems(), *settings.api_problems()])
    with servers_for_api(settings):
        discover(settings.jobs, registry)
        uvicorn.run(
            find_project().app,
            factory=True,
            host=settings.host,
            port=port or settings.port,
            workers=settings.web_concurrency,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=int(settings.grace),
        )
