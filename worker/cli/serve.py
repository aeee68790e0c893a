"""`embarq api`: the project's application, or the engine's own, under uvicorn."""

import uvicorn

from worker.cli.run import start
from worker.discovery import discover
from worker.project import find_project
from worker.registry import registry


def serve_api(host: str | None, port: int | None) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        DefinitionError: a job is declared wrongly; said once, before there are processes that would all say it.
    """
    settings = start()
    discover(settings.jobs, registry)
    uvicorn.run(
        find_project().app,
        factory=True,
        host=host or settings.host,
        port=port or settings.port,
        workers=settings.web_concurrency,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=int(settings.grace),
    )
