"""Will a worker run what is queued?"""

from collections import Counter

from worker.broker.availability import nothing_of_another_type, unavailable_when_away
from worker.broker.queue_selection import serving
from worker.cli.check import Check
from worker.cli.checks.patient import Patient
from worker.client.diagnosis import is_strange
from worker.core import keys
from worker.core.job import Priority

LOOKED_AT = 100  # jobs of each level of a queue, those that are due first
LOOKED_AT_IN_ALL = 2000
NAMED = 5


async def workers_live(patient: Patient) -> list[Check]:
    """None is an error in production, except before a release."""
    live = await patient.client.workers()
    if live:
        slots = sum(worker.concurrency for worker in live)
        return [Check.fine("workers", f"{len(live)} live, for {slots} jobs at once")]
    finding = "no worker lives: nothing that is queued runs"
    if patient.is_release:
        return [Check.doubtful("workers", finding)]
    return [patient.serious("workers", f"{finding}; start one with `embarq worker`")]


async def queues_are_served(patient: Patient) -> list[Check]:
    """Jobs in queues that no live worker serves are an error; queues that are only declared are one in production."""
    live = await patient.client.workers()
    if not live:
        return []
    records = await patient.client.queues()
    holding = {record.queue for record in records if record.waiting or record.limited}
    scheduled = {str(record.options["queue"]) for record in patient.registry.schedules if "queue" in record.options}
    declared = patient.registry.queues | scheduled
    checks = []
    for queue in sorted(holding | declared):
        if serving(live, queue):
            continue
        if queue in holding:
            checks.append(patient.of_workers("queues", f"jobs wait in {queue}, which no live worker serves"))
        elif patient.is_release:
            checks.append(Check.doubtful("queues", f"no live worker serves {queue}, where jobs of this release go"))
        else:
            checks.append(patient.serious("queues", f"no live worker serves {queue}, where jobs go"))
    return checks


async def jobs_are_known(patient: Patient) -> list[Check]:
    """Waiting jobs that no live worker of their queue has code for."""
    unknown: Counter[tuple[str, str]] = Counter()
    live, first = await patient.client.workers(), await _first_in_line(patient)
    for queue, job_id in first:
        facts = await patient.client.inspector.why(job_id)
        if facts.job is not None and not facts.leased and is_strange(facts, serving(live, queue)):
            unknown[queue, facts.job] += 1
    named = ", ".join(f"{job!r} in {queue}" for (queue, job), _ in unknown.most_common(NAMED))
    if not unknown:
        return []
    finding = f"{unknown.total()} of the {len(first)} jobs that are next are known to no live worker: {named}"
    return [patient.of_workers("jobs", finding)]


async def _first_in_line(patient: Patient) -> list[tuple[str, str]]:
    """Queues and ids of the jobs that are to run next, at most LOOKED_AT_IN_ALL."""
    found: list[tuple[str, str]] = []
    for record in await patient.client.queues():
        for priority in Priority:
            with unavailable_when_away(), nothing_of_another_type():
                ids = await patient.client.redis.zrange(keys.queue_key(record.queue, priority), 0, LOOKED_AT - 1)
                found += [(record.queue, job_id.decode(errors="replace")) for job_id in ids]
        if len(found) >= LOOKED_AT_IN_ALL:
            break
    return found[:LOOKED_AT_IN_ALL]
