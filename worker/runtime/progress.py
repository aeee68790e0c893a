"""Writes what running jobs say of their progress, together, with a renewal of their leases."""

from collections.abc import Callable, Mapping

from worker.broker.queue_store import QueueStore, Renewal, Renewed
from worker.core import wire
from worker.core.job import Progress
from worker.execution.attempt import Attempt

INTERVAL = 0.1


class ProgressWriter:
    """Knows what was written of each job. `runs`: those that are here, by their jobs. `renewed` is told what a renewal
    found out."""

    def __init__(
        self,
        queue_store: QueueStore,
        lease_ms: int,
        runs: Mapping[str, Attempt],
        renewed: Callable[[list[Attempt], Renewed], None],
    ) -> None:
        self._queue_store = queue_store
        self._lease_ms = lease_ms
        self._runs = runs
        self._renewed = renewed
        self._written: dict[Attempt, Progress] = {}

    async def run_once(self) -> None:
        """Write what is new. What could not be written is new the next time.

        Raises:
            BrokerUnavailable: Redis cannot serve it.
        """
        self._written = {run: said for run, said in self._written.items() if self._runs.get(run.id) is run}
        news: list[tuple[Attempt, Progress]] = []
        for run in self._runs.values():
            latest = run.context.last_progress
            if latest is not None and latest is not self._written.get(run):
                news.append((run, latest))
        if news:
            renewals = [Renewal(run.claimed, _as_json(latest), run.held_limits) for run, latest in news]
            renewed = await self._queue_store.renew(self._lease_ms, renewals)
            self._written |= dict(news)
            self._renewed([run for run, _ in news], renewed)


def _as_json(progress: Progress) -> bytes:
    return wire.dumps(wire.progress_record(progress))
