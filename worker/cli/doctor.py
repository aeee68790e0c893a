"""Checks of a deployment: what a release should refuse to start with, and what it should warn of."""

from worker.broker.pool import unavailable_when_away
from worker.cli.check import Check
from worker.cli.run import client_for
from worker.client import Client
from worker.connections import REQUESTS
from worker.database import DatabaseUnavailable, make_engine, ping
from worker.errors import BrokerUnavailable
from worker.history.stream import Backlog, backlog
from worker.registry import registry
from worker.settings import Settings

MANY_ENTRIES = 1000


async def examine(settings: Settings) -> list[Check]:
    """Look at everything a start needs."""
    async with client_for(settings) as client:
        names = sorted(definition.name for definition in registry)
        checks = [Check("jobs", bool(names), ", ".join(names) or "none found in EMBARQ_JOBS")]
        try:
            checks += await _redis(client)
        except BrokerUnavailable as error:
            checks.append(Check("redis", False, str(error)))
    checks.append(await _database(settings))
    return checks


async def _redis(client: Client) -> list[Check]:
    server = await client.inspector.server()
    answers = Check("redis", True, f"version {server.version}, {server.memory} used")
    with unavailable_when_away():
        behind = _history(await backlog(client))
    warnings = [*server.warnings, *behind]
    return [answers, *(Check("redis", True, warning, warning=True) for warning in warnings)]


def _history(found: Backlog) -> list[str]:
    """What is wrong with the history of ended jobs."""
    told = {
        f"{found.entries} entries of the history wait for a writer": found.entries > MANY_ENTRIES,
        f"{found.dropped} jobs are missing in the history: its stream was full": found.dropped > 0,
        f"{found.left_out} jobs are missing in the history: the database refused them": found.left_out > 0,
    }
    return [warning for warning, applies in told.items() if applies]


async def _database(settings: Settings) -> Check:
    if settings.database_url is None:
        return Check("database", True, "DATABASE_URL is not set; the queue runs without one", warning=True)
    engine = make_engine(settings.database_url, size=1, patience=REQUESTS)
    try:
        await ping(engine)
    except DatabaseUnavailable as error:
        return Check("database", False, str(error))
    finally:
        await engine.dispose()
    return Check("database", True, "answers")
