"""Checks of a deployment: what a release should refuse to start with, and what it should warn of."""

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

# In the order in which they are told. Each may raise BrokerUnavailable, which is told once.
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
    """Look at everything a start needs. Of a release that is about to start, no worker is asked to live yet.

    Raises:
        ProjectError: a folder of migrations that the project names is not there.
    """
    missing = [*settings.problems(), *settings.api_problems()]
    checks = [Check.wrong("settings", line) for line in missing]
    tell = Check.doubtful if is_release else Check.wrong  # a variable of the release before is no reason to stay there
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
        except ServerTooOld:  # its version was told
            break
        except BrokerUnavailable as error:
            return [*checks, Check.wrong(redis.REDIS, str(error))]
        except ResponseError as error:  # rules of access may refuse a command; what others see is told all the same
            checks.append(Check.doubtful(redis.REDIS, f"{check.__name__.replace('_', ' ')}: cannot be seen: {error}"))
    return checks
