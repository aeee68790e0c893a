"""`embarq dev`: the private servers, and the API and a worker as child processes, ended together."""

import os
import secrets
import signal
import sys

from worker.cli.servers import refuse_old_redis
from worker.database.migrate import migrate
from worker.dev import postgres_for, redis_for
from worker.errors import EmbarqError
from worker.inline_mode import refuse_inline
from worker.project import find_project
from worker.settings import Settings

try:
    import honcho.manager
except ImportError as error:
    raise EmbarqError("`embarq dev` needs what `pip install 'embarq[dev]'` brings") from error

# A worker may use all of its grace period to end its jobs.
SPARE_SECONDS = 10


def run_all(settings: Settings) -> int:
    """Run until Ctrl-C or until a child ends; the exit code is that of the child that ended by itself.

    Raises:
        EmbarqError: it is production here.
    """
    refuse_inline("the worker of `embarq dev`")
    if not settings.development:
        raise EmbarqError("`embarq dev` is for development, and this is production: `embarq api` and `embarq worker`")
    if settings.redis_url is not None:
        refuse_old_redis(settings, settings.redis_url)
    with (
        redis_for(settings.data_dir, settings.redis_url) as redis_url,
        postgres_for(settings.data_dir, settings.database_url) as database_url,
    ):
        project = find_project()
        migrate(database_url, project.migration_folders())
        environment = {
            **os.environ,
            "REDIS_URL": redis_url,
            "DATABASE_URL": database_url,
            "PYTHONUNBUFFERED": "1",
            **project.development,
            **_generated_key(settings),
        }
        honcho.manager.KILL_WAIT = settings.grace + SPARE_SECONDS
        manager = honcho.manager.Manager()
        program = f'"{sys.executable}" -m worker.cli'
        manager.add_process("api", f"exec {program} api", env=environment)
        manager.add_process("worker", f"exec {program} worker -Q '*'", env=environment)
        manager.loop()
        stopped = {0, 128 + signal.SIGINT, 128 + signal.SIGTERM}
        return 0 if manager.returncode in stopped else int(manager.returncode or 1)


def _generated_key(settings: Settings) -> dict[str, str]:
    """A key for this run, where other machines could do everything without one."""
    if not settings.is_exposed:
        return {}
    key = secrets.token_urlsafe(24)
    sys.stdout.write(
        f"Other machines reach {settings.host}: send `Authorization: Bearer {key}`, the key of this run.\n"
    )
    sys.stdout.flush()
    return {"EMBARQ_API_KEY": key}
