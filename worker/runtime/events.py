"""What happens to a worker, as plain data. Times are of the monotonic clock, in seconds."""

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from worker.runtime.actions import Exchange, Wait


class Leased(Hashable, Protocol):
    """A job under one lease, compared by identity: the same job under another lease is another object."""

    @property
    def id(self) -> str:
        """The job's id."""
        ...


J = TypeVar("J", bound=Leased)


class Sized(Protocol):
    """What tells Redis how a job has ended."""

    @property
    def size(self) -> int:
        """Bytes, about."""
        ...


A = TypeVar("A", bound=Sized)


@dataclass(frozen=True, slots=True)
class Brought(Generic[J]):
    """What a claim brought. `next_due_in`: seconds until the next job is due (None: none waits); `more`: more is due
    now; `suspects`: how many of them wait."""

    jobs: Sequence[J]
    next_due_in: float | None
    more: bool
    suspects: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits, but for suspects."""
        return self.next_due_in is None and not self.more and not self.jobs


@dataclass(frozen=True, slots=True)
class Ended(Generic[J, A]):
    """A job has ended here. `ack`: what tells Redis how; None where the lease is lost, and with it the right to say
    anything."""

    job: J
    ack: A | None


@dataclass(frozen=True, slots=True)
class Answered(Generic[J, A]):
    """Redis has answered an exchange. `stored`: per outcome whether it was; `brought`: None where only the claim
    failed, or there was none."""

    exchange: Exchange[Ended[J, A]]
    stored: Sequence[bool]
    brought: Brought[J] | None
    at: float


@dataclass(frozen=True, slots=True)
class Unavailable(Generic[J, A]):
    """Redis could not be reached, or its answer got lost: it may have done all of the exchange, or do it yet."""

    exchange: Exchange[Ended[J, A]]
    at: float


@dataclass(frozen=True, slots=True)
class Refused(Generic[J, A]):
    """Redis lives, and refuses the exchange."""

    exchange: Exchange[Ended[J, A]]
    at: float


@dataclass(frozen=True, slots=True)
class Interrupted(Generic[J, A]):
    """This process gave the exchange up, and does not know how it went."""

    exchange: Exchange[Ended[J, A]]


@dataclass(frozen=True, slots=True)
class Waited(Generic[J]):
    """A wait has ended. `token`: the list in which one was found; `brought`: by the claim behind the wait, None where
    there was none, or it was not made."""

    wait: Wait
    token: str | None
    brought: Brought[J] | None
    at: float


@dataclass(frozen=True, slots=True)
class WaitFailed:
    """The connection of a wait broke, or Redis refused it; what the claim behind it brought is not known."""

    wait: Wait
    at: float


@dataclass(frozen=True, slots=True)
class BreakOffTried:
    """Redis was asked to break off the wait. `again`: whether it makes sense to ask again, should it go on."""

    again: bool
    at: float


@dataclass(frozen=True, slots=True)
class HooksBegun:
    """A job whose outcome is stored keeps its slot for its hooks."""


@dataclass(frozen=True, slots=True)
class HooksEnded:
    """They have ended."""


@dataclass(frozen=True, slots=True)
class Notified:
    """Something may be due: it is time to claim, as soon as there is room."""


@dataclass(frozen=True, slots=True)
class Told:
    """The worker is to take no more. Where it stops altogether: when jobs that have not ended are handed back, and when
    it is gone whatever goes on."""

    hand_back_at: float | None = None
    gone_at: float | None = None


@dataclass(frozen=True, slots=True)
class SettledBeside(Generic[J]):
    """The worker has left, and what became of these jobs was stored without it: it owes nothing for them."""

    jobs: Collection[J]


Event = (
    Ended[J, A]
    | Answered[J, A]
    | Unavailable[J, A]
    | Refused[J, A]
    | Interrupted[J, A]
    | Waited[J]
    | WaitFailed
    | BreakOffTried
    | HooksBegun
    | HooksEnded
    | Notified
    | Told
    | SettledBeside[J]
)
