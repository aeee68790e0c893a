"""Looks whether plain arq's `Job.abort` wants running jobs stopped: it leaves an entry in Redis, and tells nobody."""

from collections.abc import Callable, Iterable

from redis.asyncio import Redis

from worker.broker import keys
from worker.broker.pool import unavailable_when_away
from worker.run import Run

SLICE = 500


class AbortWatch:
    """Finds which of the running jobs are to be aborted, and says so to `cancel`.

    Renewals find them too, but every third of a lease only, and claims where there is room for one.
    """

    def __init__(self, redis: Redis, runs: Callable[[], Iterable[Run]], cancel: Callable[[list[str]], object]) -> None:
        self._redis = redis
        self._runs = runs
        self._cancel = cancel

    async def run_once(self) -> None:
        """Look once; a single short command while nobody aborts anything, and none while nothing runs."""
        running = [run.claimed.id for run in self._runs() if run.stop is None]
        if not running:
            return
        with unavailable_when_away():
            if not await self._redis.exists(keys.ABORT):
                return
            for start in range(0, len(running), SLICE):
                ids = running[start : start + SLICE]
                scores = await self._redis.zmscore(keys.ABORT, ids)
                aborted = [job_id for job_id, score in zip(ids, scores, strict=True) if score is not None]
                if aborted:
                    self._cancel(aborted)
