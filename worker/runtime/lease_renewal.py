"""A thread that renews the leases of running jobs. It may hang as long as Redis does: nothing waits for it."""

import threading
import time
from collections.abc import Callable

import structlog

from worker.broker.lease import LeaseKeeper
from worker.broker.queue_store import Renewal
from worker.core.errors import BrokerUnavailable
from worker.execution.attempt import Attempt

logger = structlog.stdlib.get_logger("embarq.watchdog")

LONGEST_PAUSE = 1.0  # after a renewal that failed


class Renewing:
    """Renews every third of a lease, between `start` and `stop`.

    `lost` is called with jobs whose leases somebody else has, `aborted` with the ids of those that plain arq's abort
    wants stopped, both in this thread.
    """

    def __init__(
        self,
        keeper: LeaseKeeper,
        lease: float,
        runs: Callable[[], list[Attempt]],
        lost: Callable[[list[Attempt]], None],
        aborted: Callable[[list[str]], None],
    ) -> None:
        self._keeper = keeper
        self._lease = lease
        self._runs = runs
        self._lost = lost
        self._aborted = aborted
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="lease keeper", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the renewal that is under way, if one is."""
        self._stop.set()

    def _work(self) -> None:
        pause = self._lease / 3
        while not self._stop.wait(pause):
            began = time.monotonic()
            try:
                pause = self._lease / 3 if self._renewed(began) else min(LONGEST_PAUSE, self._lease / 10)
            except Exception:
                logger.exception("lease renewal fault")
            pause = max(0.0, began + pause - time.monotonic())
        self._keeper.close()

    def _renewed(self, now: float) -> bool:
        runs = self._runs()
        if not runs:
            return True
        try:
            renewed = self._keeper.renew(
                int(self._lease * 1000), [Renewal(run.claimed, limits=run.held_limits) for run in runs]
            )
        except BrokerUnavailable as error:
            logger.warning("leases not renewed", reason=str(error), jobs=len(runs))
            return False
        lost = set(renewed.lost)
        for run in runs:
            if run.claimed.id not in lost:
                run.leased_until = now + self._lease
        if lost:
            self._lost([run for run in runs if run.claimed.id in lost])
        if renewed.aborted:
            self._aborted(renewed.aborted)
        return True
