"""Looks whether plain arq's `Job.abort` wants running jobs stopped: it leaves an entry in Redis, and tells nobody."""

from collections.abc import Callable, Iterable

from redis.asyncio import Redis

from worker.broker.availability import unavailable_when_away
from worker.core import keys
from worker.execution.attempt import Attempt, Stop

SLICE = 500


class AbortWatch:
    """Finds which of the running jobs are to be aborted, and cancels them.

    Renewals find them too, but every third of a lease only, and claims where there is room for one.
    """

    def __init__(self, redis: Redis, runs: Callable[[], Iterable[Attempt]]) -> None:
        self._redis = redis
        self._runs = runs

    async def run_once(self) -> None:
        """Look once; a single short command while nobody aborts anything, and none while nothing runs."""
        running = [run for run in self._runs() if run.stop is None]
        if not running:
            return
        with unavailable_when_away():
            if not await self._redis.exists(keys.ABORT):
                return
            for start in range(0, len(running), SLICE):
                runs = running[start : start + SLICE]
                scores = await self._redis.zmscore(keys.ABORT, [run.claimed.id for run in runs])
                for run, score in zip(runs, scores, strict=True):
                    if score is not None:
                        run.cancel(Stop.CANCELLED)
