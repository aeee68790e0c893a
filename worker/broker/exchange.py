"""What goes to the scripts that claim and settle, and what comes back."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from worker.broker import scripts
from worker.core import keys, wire
from worker.core.job import State

logger = structlog.stdlib.get_logger("embarq.broker")

HELD_IDS_STEPPED_OVER = 1000  # due ids that plain arq workers hold, which stay at the head of a shared queue
FIELDS_PER_CLAIM = 7
UNTIL_FOREVER = -1
URGENT_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job that this worker holds under a lease. `claimed_ms` is Redis' time of the claim. `was_alone`: nothing ran
    beside it in the worker that lost it."""

    id: str
    queue_key: str
    token: str
    payload: bytes
    tries: int
    leases_lost: int
    aborted: bool
    claimed_ms: int
    was_alone: bool = False

    @property
    def worker(self) -> str:
        """The id of the worker that holds the lease."""
        return self.token.removeprefix(keys.TOKEN).rpartition(":")[0]

    @property
    def number(self) -> str:
        """The number of the claim that brought it."""
        return self.token.rpartition(":")[2]


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim brought: jobs, seconds until the next is due (None: none waits), whether more is due now, how many
    suspects wait in the queues that were asked."""

    jobs: list[Claimed]
    next_due_in: float | None
    more: bool
    suspects: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits, but for suspects."""
        return self.next_due_in is None and not self.more and not self.jobs


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """What a worker has room for. `number` makes the tokens of each claim different.

    Without `queue_keys` all queues are served that hold something; `lowest_first` is then the order of their levels.
    `suspects`: take a group of jobs that lost their leases twice in a row, and nothing else; other claims take none.
    """

    worker: str
    number: int
    queue_keys: Sequence[str]
    limit: int
    lease_ms: int
    lowest_first: bool = False
    suspects: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """The try ended the job. `value`: of a workflow's job, its result or failure alone, as JSON. `trace`: what stays
    for a minute of a job whose result is not kept."""

    state: State
    result: bytes
    ttl_ms: int | None
    value: bytes = b""
    trace: bytes = b""


@dataclass(frozen=True, slots=True)
class PutBack:
    """The job is requeued. `released`: the try does not count. `record`: of a try that does, as JSON."""

    delay_ms: int
    released: bool
    record: bytes = b""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What becomes of a claimed job. `limits`: keys of those that it held; `workflow` and `node`: its place in one;
    `durable`: its nonce, where the database keeps it on record until its end is known there."""

    claimed: Claimed
    outcome: Ended | PutBack
    limits: Sequence[str] = ()
    workflow: str | None = None
    node: int | None = None
    durable: str = ""

    @property
    def size(self) -> int:
        """Bytes, about, that it takes to send it."""
        outcome = self.outcome
        if isinstance(outcome, PutBack):
            return len(outcome.record)
        return len(outcome.result) + len(outcome.value) + len(outcome.trace)


def urgent_first(settlements: Sequence[Settlement]) -> Iterator[list[Settlement]]:
    """Settlements in calls that store as many as possible in little time: requeued jobs first, then outcomes, the small
    ones before the large ones, a megabyte at most in a call that has more than one."""
    back = [each for each in settlements if isinstance(each.outcome, PutBack)]
    ended = [each for each in settlements if isinstance(each.outcome, Ended)]
    for kind in (back, ended):
        call: list[Settlement] = []
        size = 0
        for settlement in sorted(kind, key=lambda each: each.size):
            if call and size + settlement.size > URGENT_BYTES:
                yield call
                call, size = [], 0
            call.append(settlement)
            size += settlement.size
        if call:
            yield call


def was_stored(settlement: Settlement, answer: int | bytes) -> bool:
    """What the finish script returned for one settlement; False also for one that it could not store, which is
    logged."""
    if isinstance(answer, int):
        return bool(answer)
    logger.error(
        "outcome of a job cannot be stored", job_id=settlement.claimed.id, reason=answer.decode(errors="replace")
    )
    return False


def finish_request(settlements: Sequence[Settlement]) -> scripts.Request:
    """What the finish script takes."""
    arguments: list[scripts.Argument] = [settlements[0].claimed.worker]
    for settlement in settlements:
        claimed, outcome = settlement.claimed, settlement.outcome
        arguments += (claimed.id, claimed.queue_key, claimed.token, claimed.tries)
        if isinstance(outcome, Ended):
            arguments += (outcome.state.value, outcome.result, life(outcome.ttl_ms))
        else:
            arguments += ("release" if outcome.released else "retry", outcome.record, outcome.delay_ms)
        arguments.append(_also(settlement))
    return scripts.Request(scripts.FINISH, (), arguments)


def _also(settlement: Settlement) -> bytes:
    """What else belongs to a settlement, as the script reads it; empty for most."""
    outcome = settlement.outcome
    trace = outcome.trace if isinstance(outcome, Ended) else b""
    if not settlement.limits and settlement.workflow is None and not settlement.durable and not trace:
        return b""
    also: dict[str, object] = {"l": settlement.limits}
    if settlement.workflow is not None and isinstance(outcome, Ended):
        also |= {"w": settlement.workflow, "n": settlement.node, "r": outcome.value.decode()}
    if trace:
        also["t"] = trace.decode()
    if settlement.durable:
        also["d"] = settlement.durable
    return wire.dumps(also)


def life(ttl_ms: int | None) -> int:
    """A result's life in the script's terms: at least a minute where it is kept at all, so that a repeated enqueue or
    settlement is recognised as one."""
    if ttl_ms is None:
        return UNTIL_FOREVER
    return 0 if ttl_ms <= 0 else min(max(ttl_ms, keys.TOMBSTONE_MS), keys.MOST_MS)


def claim_request(claim: ClaimRequest) -> scripts.Request:
    """What the claim script takes."""
    modes = (int(claim.lowest_first), int(claim.suspects))
    arguments = (claim.worker, claim.number, claim.lease_ms, claim.limit, HELD_IDS_STEPPED_OVER, *modes)
    return scripts.Request(scripts.CLAIM, claim.queue_keys, arguments)


def read_claim(request: ClaimRequest, answer: list[Any]) -> Claim:
    """What the claim script returns."""
    now, next_due = int(answer[0]), int(answer[1])
    token = f"{keys.TOKEN}{request.worker}:{request.number}"
    jobs = []
    for start in range(4, len(answer), FIELDS_PER_CLAIM):
        job_id, queue, payload, tries, lost, aborted, alone = answer[start : start + FIELDS_PER_CLAIM]
        place = job_id.decode(), queue.decode(), token, payload
        jobs.append(Claimed(*place, tries, lost, bool(aborted), now, bool(alone)))
    return Claim(jobs, None if next_due < 0 else max(0, next_due - now) / 1000, bool(answer[2]), answer[3])
