"""How long a job may go on being requeued because something that it is given is unavailable."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

MOST_REMEMBERED = 100_000
SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
JITTER = 0.2


@dataclass(slots=True)
class _Seen:
    first_at: float
    times: int = 0


class Outages:
    """What this worker has seen of jobs whose tries were ended by an outage. A job's patience is its own: one that
    breaks its connection each time by itself does not live on the successes of others."""

    def __init__(self, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`patience`: seconds from a job's first such try in which they do not count. `seen`: of which jobs there is
        something to forget."""
        self._patience = patience
        self._clock = clock
        self.seen: dict[str, _Seen] = {}

    def pause(self, job_id: str, chance: float | None = None) -> float | None:
        """Seconds until another try that does not use up one; None when there have been such for long enough.

        `chance`, from 0 to 1, picks within the jitter.
        """
        now = self._clock()
        seen = self.seen.pop(job_id, None) or _Seen(now)
        if now - seen.first_at >= self._patience:
            self._remember(job_id, seen)
            return None
        longest = min(LONGEST_PAUSE, SHORTEST_PAUSE * 2.0 ** min(seen.times, 10))
        seen.times += 1
        self._remember(job_id, seen)
        return longest * (1 - JITTER * (random.random() if chance is None else chance))  # noqa: S311  # not a secret

    def forget(self, job_id: str) -> None:
        """The job has ended, or failed for another reason."""
        self.seen.pop(job_id, None)

    def _remember(self, job_id: str, seen: _Seen) -> None:
        self.seen[job_id] = seen
        if len(self.seen) > MOST_REMEMBERED:
            del self.seen[next(iter(self.seen))]
