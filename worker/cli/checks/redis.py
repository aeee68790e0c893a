"""Does Redis keep its data?"""

from redis.exceptions import ResponseError

from worker.broker.availability import unavailable_when_away
from worker.cli.check import Check
from worker.cli.checks.patient import Patient
from worker.client import Client
from worker.history.stream import backlog

REDIS = "redis"
MANY_ENTRIES = 1000  # a writer takes a hundred at a time: it is behind, not just busy


async def redis_keeps_jobs(patient: Patient) -> list[Check]:
    """Evicting, or forgetting all at a restart, is wrong in production."""
    server = await patient.client.inspector.server()
    if server.problem is not None:
        return [Check.wrong(REDIS, server.problem)]
    checks = [] if server.refusal else [Check.fine(REDIS, f"version {server.version}, {server.memory} used")]
    serious = [*server.evicting, *(server.forgetting if not await _snapshots(patient.client) else ())]
    checks += [patient.serious(REDIS, finding) for finding in serious]
    return checks + [Check.doubtful(REDIS, each) for each in server.warnings if each not in serious]


async def _snapshots(client: Client) -> bool:
    """Whether Redis writes snapshots now and then; False also where CONFIG is forbidden, as on many hosts."""
    with unavailable_when_away():
        try:
            found = await client.redis.execute_command("CONFIG", "GET", "save")
        except ResponseError:
            return False
    values = list(found.values()) if isinstance(found, dict) else list(found)[1:]
    return any(values)


async def history_keeps_up(patient: Patient) -> list[Check]:
    """Ended jobs that wait to be written, and those that never will be."""
    with unavailable_when_away():
        found = await backlog(patient.client.redis)
    told = {
        f"{found.entries} entries of the history wait for a writer": found.entries > MANY_ENTRIES,
        f"{found.dropped} jobs are missing in the history: its stream was full": found.dropped > 0,
        f"{found.left_out} jobs are missing in the history: the database refused them": found.left_out > 0,
    }
    return [Check.doubtful("history", warning) for warning, applies in told.items() if applies]
