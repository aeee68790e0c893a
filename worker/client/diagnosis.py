"""Why a job waits: one function from facts to reasons, for the API, the command line and the dashboard."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from worker.broker.inspect import WorkerRecord
from worker.broker.job_facts import JobFacts, LimitFacts
from worker.broker.queue_selection import serving
from worker.core.job import from_ms
from worker.core.keys import PARKED_SCORE, parse_queue_key

QUEUES_NAMED = 5


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason why a job waits.

    kind: `due`, `queue_paused`, `limit`, `rate`, `isolation`, `steps`, `no_worker_serves`, `no_worker_knows`,
    `in_line`. until: when it is over, where that is known. jobs: who it waits for, ten at most. ahead: how many are
    before it in line.
    """

    kind: str
    message: str
    until: datetime | None = None
    jobs: tuple[str, ...] = ()
    ahead: int | None = None


def reasons(facts: JobFacts, workers: Sequence[WorkerRecord]) -> list[Reason]:
    """Why the job waits; empty when it runs or has ended."""
    if facts.workflow is not None and facts.job is None:
        return _of_step(facts)
    if facts.job is None or facts.leased:
        return []
    queue, _ = parse_queue_key(facts.queue)
    here = serving(workers, queue)
    strange = is_strange(facts, here)
    unknown = [Reason("no_worker_knows", f"no live worker of queue {queue} knows job {facts.job}")] if strange else []
    if facts.now < facts.due < PARKED_SCORE:  # workers requeue what they do not know, for up to 30 s
        return [*unknown, Reason("due", "it is not due yet", until=from_ms(facts.due))]
    found = [Reason("queue_paused", f"queue {queue} is paused")] if facts.paused else []
    found += [_of_limit(limit) for limit in facts.limits if limit.room <= 0]
    if facts.together:
        times = f"its worker was lost {facts.lost} times in a row while it ran"
        found.append(Reason("isolation", f"{times}: it waits to run apart, with {facts.together - 1} more at most"))
    if not here and not facts.plain_arq:
        found.append(Reason("no_worker_serves", f"no live worker serves queue {queue}{_served(workers)}"))
    found += unknown
    return found or [_in_line(facts, [worker for worker in here if worker.knows(facts.job) is not False])]


def is_strange(facts: JobFacts, here: Sequence[WorkerRecord]) -> bool:
    """Whether the workers that serve its queue, and there are some, all say that they have no code for the job; those
    of plain arq say nothing."""
    if not here or facts.plain_arq or facts.job is None:
        return False
    return all(worker.knows(facts.job) is False for worker in here)


def _served(workers: Sequence[WorkerRecord]) -> str:
    queues = sorted({queue for worker in workers for queue in worker.queues})
    if not queues:
        return ": none lives"
    more = ", ..." if len(queues) > QUEUES_NAMED else ""
    return f"; those that live serve {', '.join(queues[:QUEUES_NAMED])}{more}"


def _of_step(facts: JobFacts) -> list[Reason]:
    if facts.over or facts.waits <= 0:
        return []
    return [Reason("steps", f"it waits for {facts.waits} steps of its workflow", jobs=facts.steps)]


def _of_limit(limit: LimitFacts) -> Reason:
    if limit.is_rate:
        return Reason("rate", f"the rate is used up: {limit.text}", until=from_ms(limit.free_at))
    return Reason("limit", f"the places are taken: {limit.text}", jobs=limit.holders)


def _in_line(facts: JobFacts, workers: Sequence[WorkerRecord]) -> Reason:
    """The estimate takes what those workers have done lately, other jobs included."""
    rate = sum(worker.rate for worker in workers)
    until = from_ms(facts.now + 1000 * facts.ahead / rate) if rate > 0 and facts.ahead else None
    return Reason("in_line", f"{facts.ahead} jobs are before it", until=until, ahead=facts.ahead)
