"""What a worker does next, as plain data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

E = TypeVar("E")
J = TypeVar("J")


@dataclass(frozen=True, slots=True)
class Ask:
    """A claim of `limit` jobs at most. `number` makes the leases of each claim different. `suspects`: of jobs that lost
    two leases in a row, and nothing else."""

    number: int
    limit: int
    suspects: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Exchange(Generic[E]):
    """One round trip: store what has `ended`, give back what claims brought that were `unheard` of, claim. `notified`:
    how often there was news when it began."""

    ended: tuple[E, ...]
    ask: Ask | None
    unheard: tuple[int, ...]
    notified: int


@dataclass(frozen=True, slots=True, eq=False)
class Wait:
    """Wait for a token; `ask` is a blocking claim, made as soon as the wait ends."""

    ask: Ask | None


@dataclass(frozen=True, slots=True)
class BreakOff:
    """End the wait that is under way."""


@dataclass(frozen=True, slots=True)
class PassOn:
    """Put a token back into its list: others are to hear it."""

    token: str


@dataclass(frozen=True, slots=True)
class Confirm:
    """Say that the answer of a claim has come. It is on its way before the first of its jobs runs."""

    number: int


@dataclass(frozen=True, slots=True)
class Begin(Generic[J]):
    """Start jobs."""

    jobs: Sequence[J]


@dataclass(frozen=True, slots=True)
class Release(Generic[J]):
    """Put jobs back that have not begun: their tries do not count."""

    jobs: Sequence[J]


@dataclass(frozen=True, slots=True)
class Overtaken(Generic[J]):
    """A job's lease was lost, and the same job has come back to this very worker: stop the earlier one."""

    job: J


@dataclass(frozen=True, slots=True)
class Finish(Generic[E]):
    """What follows once outcomes are stored, or refused: counters, hooks."""

    ended: Sequence[E]
    stored: Sequence[bool]


@dataclass(frozen=True, slots=True)
class Drain:
    """Say that the worker takes no more."""


@dataclass(frozen=True, slots=True)
class HandBack:
    """Cancel what runs; it goes back to its queue."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Nothing is left to do, or no time. The last action."""


@dataclass(frozen=True, slots=True)
class SleepUntil:
    """Nothing else is to be done before this time, unless something happens. The last action of its list."""

    at: float


Action = (
    Exchange[E]
    | Wait
    | BreakOff
    | PassOn
    | Confirm
    | Begin[J]
    | Release[J]
    | Overtaken[J]
    | Finish[E]
    | Drain
    | HandBack
    | Leave
    | SleepUntil
)
