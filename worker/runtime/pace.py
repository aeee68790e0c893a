"""How fast something is done, lately."""

import time


class Pace:
    """A rate that follows changes within a few measurements."""

    def __init__(self) -> None:
        self._at, self._done, self._rate = time.monotonic(), 0, 0.0

    def measure(self, done: int) -> float:
        """So many a second, from how many were ever done: what came since the last measurement counts for half, what
        was before for the rest."""
        now = time.monotonic()
        fresh = (done - self._done) / max(now - self._at, 0.001)
        self._at, self._done, self._rate = now, done, (fresh + self._rate) / 2
        return round(self._rate, 3)
