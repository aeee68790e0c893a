"""`embarq dev`: the private servers, and the API and a worker as child processes, ended together."""

import os
import signal
import sys

import honcho.manager

from worker.database.migrate import migrate
from worker.dev import postgres_for, redis_for
from worker.project import find_project
from worker.settings import Settings

# A worker may use all of its grace period to end its jobs.
SPARE_SECONDS = 10


def run_all(settings: Settings) -> int:
    """Run until Ctrl-C or until a child ends; the exit code is that of the child that ended by itself."""
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
        }
        honcho.manager.KILL_WAIT = settings.grace + SPARE_SECONDS
        manager = honcho.manager.Manager()
        program = f'"{sys.executable}" -m worker.cli'
        manager.add_process("api", f"exec {program} api", env=environment)
        manager.add_process("worker", f"exec {program} worker -Q '*'", env=environment)
        manager.loop()
        stopped = {0, 128 + signal.SIGINT, 128 + signal.SIGTERM}
        return 0 if manager.returncode in stopped else int(manager.returncode or 1)
