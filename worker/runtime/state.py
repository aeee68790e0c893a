"""What a worker knows of itself. Only the planner writes it (`planner`, and its part `traffic`); others may read."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic

from worker.core.config import Suspects, WorkerConfig
from worker.runtime.actions import Exchange, Wait
from worker.runtime.claims import Claims
from worker.runtime.events import A, Brought, Ended, J
from worker.runtime.isolation import Isolation, Turn


class Phase(Enum):
    """How far a worker is. DRAINING takes no more jobs; HANDING_BACK has cancelled those that run."""

    SERVING = "serving"
    DRAINING = "draining"
    HANDING_BACK = "handing back"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Rules:
    """What does not change. `slots`: jobs at once; `poll`: the longest time without a look; `lease`, both in seconds;
    `burst`: leave when nothing waits; `suspects`: who runs jobs that lost two leases in a row."""

    slots: int
    poll: float
    lease: float
    burst: bool = False
    suspects: Suspects = Suspects.HERE

    @classmethod
    def of(cls, config: WorkerConfig) -> "Rules":
        """The rules of a worker."""
        return cls(config.concurrency, config.poll, config.lease, config.burst, config.suspects)


@dataclass(slots=True, eq=False)
class State(Generic[J, A]):
    """A worker's jobs, what it owes Redis, what is under way, and when it acts again.

    runs: the newest lease of each job that is here. leases: every job that takes a slot, and whether its outcome is
    known; beside `runs` those that have come back to this worker, until their earlier run has ended, and those that go
    back unbegun. hooks: slots that are kept for hooks of jobs that have ended.
    brought: what claims brought that has not begun. due: what is to be done once.
    outbox: outcomes that Redis does not have. sent: exchanges under way, whose outcomes are in no outbox meanwhile.
    alone: how many outcomes are to go one by one, since Redis refused some of them together.
    backlog: more is due than there is room for. nothing_waits: the last claim left nothing for this worker to do.
    claim_at: when to claim next. resume_at: when to try again after `failures`. notified: how often there was news.
    wait: what is under way, with `wrong_since`: since when it is of the wrong kind. wait_at: when to wait again after a
    failure. breaking_off, can_break_off: whether it is asked for, and allowed here.
    """

    rules: Rules
    isolation: Isolation
    claims: Claims
    phase: Phase = Phase.SERVING
    hand_back_at: float | None = None
    gone_at: float | None = None
    runs: dict[str, J] = field(default_factory=dict)
    leases: dict[J, bool] = field(default_factory=dict)
    hooks: int = 0
    brought: list[tuple[int, Brought[J]]] = field(default_factory=list)
    due: list[Any] = field(default_factory=list)
    outbox: list[Ended[J, A]] = field(default_factory=list)
    sent: list[Exchange[Ended[J, A]]] = field(default_factory=list)
    alone: int = 0
    backlog: bool = False
    nothing_waits: bool = False
    claim_at: float = 0.0
    resume_at: float = 0.0
    failures: int = 0
    notified: int = 0
    wait: Wait | None = None
    wait_at: float = 0.0
    wrong_since: float | None = None
    breaking_off: bool = False
    can_break_off: bool = True

    @classmethod
    def new(cls, rules: Rules) -> "State[J, A]":
        """Of a worker that has not begun."""
        return cls(rules, Isolation(rules.suspects, rules.slots), Claims(rules.lease))

    @property
    def taken(self) -> int:
        """Slots that are taken: by jobs, by those that are about to begin, and by hooks."""
        coming = sum(len(brought.jobs) for _, brought in self.brought) if self.brought else 0
        return len(self.leases) + coming + self.hooks

    def is_open(self, job: J) -> bool:
        """Whether the job takes a slot, and its outcome is not known."""
        return self.leases.get(job) is False

    def turn(self, now: float) -> Turn:
        """Whether this worker may claim suspects, others, or nothing."""
        return self.isolation.turn(self.taken - self.hooks, now)

    def unsettled(self) -> list[A]:
        """The outcomes that Redis has not confirmed, those on their way too. May be called from any thread."""
        return [ended.ack for ended in self.waiting() if ended.ack is not None]

    def waiting(self) -> list[Ended[J, A]]:
        """Jobs that have ended, in the order in which Redis is to hear of them.

        What goes from one of the two lists to the other is for a moment in both, never in none. `sent` is another list
        after each such move, so one that is still the same had none while the outbox was read.
        """
        while True:
            sent, outbox = self.sent, [*self.outbox]
            if sent is self.sent:
                both = [ended for exchange in sent for ended in exchange.ended] + outbox
                return list({id(ended): ended for ended in both}.values())
