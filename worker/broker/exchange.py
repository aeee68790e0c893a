"""What a worker and Redis tell each other: what is claimed, and what became of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from worker.core import keys
from worker.core.job import State

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
class Requeue:
    """The job is requeued. `released`: the try does not count. `record`: of a try that does, as JSON."""

    delay_ms: int
    released: bool
    record: bytes = b""


@dataclass(frozen=True, slots=True)
class Ack:
    """What becomes of a claimed job. `limits`: keys of those that it held; `workflow` and `node`: its place in one;
    `durable`: its request id, where the database keeps it on record until its end is known there."""

    claimed: Claimed
    outcome: Ended | Requeue
    limits: Sequence[str] = ()
    workflow: str | None = None
    node: int | None = None
    durable: str = ""

    @property
    def size(self) -> int:
        """Bytes, about, that it takes to send it."""
        outcome = self.outcome
        if isinstance(outcome, Requeue):
            return len(outcome.record)
        return len(outcome.result) + len(outcome.value) + len(outcome.trace)


def urgent_first(acks: Sequence[Ack]) -> Iterator[list[Ack]]:
    """Outcomes in calls that store as many as possible in little time: requeued jobs first, then outcomes, the small
    ones before the large ones, a megabyte at most in a call that has more than one."""
    back = [each for each in acks if isinstance(each.outcome, Requeue)]
    ended = [each for each in acks if isinstance(each.outcome, Ended)]
    for kind in (back, ended):
        call: list[Ack] = []
        size = 0
        for ack in sorted(kind, key=lambda each: each.size):
            if call and size + ack.size > URGENT_BYTES:
                yield call
                call, size = [], 0
            call.append(ack)
            size += ack.size
        if call:
            yield call
