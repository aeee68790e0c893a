"""Jobs inside jobs: how deep, how many, and whose time limits are suspended meanwhile."""

import contextlib
import itertools
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

from worker.core.errors import EmbarqError
from worker.execution.attempt import Attempt

DEEPEST = 50  # each job takes some ten frames of Python's stack, which ends at a thousand
MOST_CALLS = 100_000


class InlineTooDeep(EmbarqError):
    """Jobs seem to enqueue jobs without end."""


class InlineDeadlock(EmbarqError):
    """A job waits for one that cannot continue before this one has ended."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a call was made: `around` is the try that made it, `depth` how many jobs it is inside of, `calls` counts
    all calls that the outermost one has led to."""

    around: "Frame | None"
    depth: int
    calls: "itertools.count[int]"


@dataclass(slots=True, eq=False)
class Frame:
    """A try that is under way, as the jobs that it enqueues see it."""

    run: Attempt
    place: Place
    _calls: int = field(default=0, init=False)
    _stopped: tuple[float, float | None, float | None] = field(default=(0.0, None, None), init=False)

    @contextlib.contextmanager
    def clocks_stopped(self) -> Iterator[None]:
        """While a job that this one enqueued runs, its time limits stand still: a worker would run both side by
        side."""
        if self._calls == 0:
            self._stopped = (time.monotonic(), self.run.soft_at, self.run.hard_at)
            self.run.lift_limits()
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            if self._calls == 0:
                since, soft_at, hard_at = self._stopped
                spent = time.monotonic() - since
                self.run.soft_at = None if soft_at is None else soft_at + spent
                self.run.hard_at = None if hard_at is None else hard_at + spent


current: ContextVar[Frame | None] = ContextVar("embarq_inline", default=None)


@contextlib.contextmanager
def entered(what: str) -> Iterator[Place]:
    """Enter a call of a job or workflow; `what`: its name, for messages.

    Raises:
        InlineTooDeep: it would run inside too many jobs, or the outermost call has led to too many.
    """
    around = current.get()
    if around is None:
        yield Place(None, 1, itertools.count(1))
        return
    depth, calls = around.place.depth, around.place.calls
    if depth >= DEEPEST:
        raise InlineTooDeep(
            f"{what} must not run inside more than {DEEPEST} jobs, the innermost of which is "
            f"{around.run.context.job!r}: inline mode runs at once what a job enqueues, so jobs that enqueue "
            "themselves never end; run a worker"
        )
    if next(calls) > MOST_CALLS:
        raise InlineTooDeep(f"one call must lead to at most {MOST_CALLS:,} others, the last being {what}; run a worker")
    with around.clocks_stopped():
        yield Place(around, depth + 1, calls)


def frames() -> Iterator[Frame]:
    """The tries that this code runs inside of, the innermost first."""
    frame = current.get()
    while frame is not None:
        yield frame
        frame = frame.place.around
