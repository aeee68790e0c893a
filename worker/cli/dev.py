"""`embarq dev`: what it needs before anything is started."""

from pathlib import Path

from worker.cli.run import start
from worker.cli.servers import refuse_old_redis
from worker.core.errors import EmbarqError
from worker.core.inline_mode import refuse_inline
from worker.dev import terminal
from worker.settings.env_file import read_env_file


def run_all(*, reload: bool) -> int:
    """Run everything in one terminal; returns the exit code. `reload`: whether changes of the code restart it.

    Raises:
        EmbarqError: this is production, or a server that is set does not work.
    """
    of_file = read_env_file(Path.cwd())
    settings = start()
    refuse_inline("the worker of `embarq dev`")
    if not settings.development:
        raise EmbarqError("`embarq dev` must not run in production: run `embarq api` and `embarq worker`")
    if settings.redis_url is not None:
        refuse_old_redis(settings, settings.redis_url)
    return terminal.run_all(settings, reload=reload, of_file=of_file)
