"""Checks of a deployment: what should stop a release, and what it should warn about."""

import os
from collections.abc import Awaitable, Callable

from redis.exceptions import ResponseError

from worker.cli.check import Check
from worker.cli.checks import Patient, database, redis, workers
from worker.cli.run import client_for, run, start
from worker.core.errors import BrokerUnavailable, ServerTooOld
from worker.core.variables import misspelt
from worker.definition.registry import registry
from worker.settings import Settings
from worker.settings.project import find_project

# In the order of the report. Each may raise BrokerUnavailable, which is reported once.
OF_REDIS: tuple[Callable[[Patient], Awaitable[list[Check]]], ...] = (
    redis.redis_keeps_jobs,
    redis.history_keeps_up,
    workers.workers_live,
    workers.queues_are_served,
    workers.jobs_are_known,
)


def examine_all(*, is_release: bool) -> list[Check]:
    """Look at the project of the current folder; see `examine`."""
    return run(examine(start(), is_release=is_release))


async def examine(settings: Settings, *, is_release: bool = False) -> list[Check]:
    """Check everything that a start needs. Before a release, no worker need live yet.

    Raises:
        ProjectError: a folder of migrations that the project names does not exist.
    """
    missing = [*settings.problems(), *settings.api_problems()]
    checks = [Check.wrong("settings", line) for line in missing]
    tell = Check.doubtful if is_release else Check.wrong  # a variable that only the last release knew must not stop one
    checks += [tell("settings", str(each)) for each in misspelt(type(settings), os.environ)]
    if settings.redis_problems():
        return checks
    folders = find_project().migration_folders()
    async with client_for(settings) as client:
        patient = Patient(settings, registry, folders, client, is_release)
        names = len(list(registry))
        found = f"{names} found in {', '.join(settings.jobs)}"
        checks.append(Check.fine("jobs", found) if names else Check.wrong("jobs", found))
        checks += [Check.doubtful(f"schedule {name}", why) for name, why in registry.warnings().items()]
        checks += await _of_redis(patient)
        checks += await database.tables_are_there(patient)
    return checks


async def _of_redis(patient: Patient) -> list[Check]:
    checks: list[Check] = []
    for check in OF_REDIS:
        try:
            checks += await check(patient)
        except ServerTooOld:  # the first check has reported its version
            break
        except BrokerUnavailable as error:
            return [*checks, Check.wrong(redis.REDIS, str(error))]
        except ResponseError as error:  # an ACL may forbid a command; the other checks are still made
            checks.append(
                Check.doubtful(redis.REDIS, f"{check.__name__.replace('_', ' ')}: cannot be checked: {error}")
            )
    return checks
