"""A thread beside the event loop: it watches the leases, and sees when a job blocks the loop.

Promised: while this process runs, a job that blocks the loop does not lose its lease (another thread renews it), and a
job whose lease could not be renewed is cancelled a margin before the lease ends, however long the renewal hangs: a
tenth of the lease, a second at most (1 s of 15 s), looked at every 50 ms. So a coroutine that ends when it is cancelled
has ended before anybody else may start the job. Not promised: a job that does not end at its cancellation, or that
blocks the loop; a process that is stopped whole (SIGSTOP, a frozen machine), or a call into C that holds the
interpreter's lock: these keep nothing. Their jobs start elsewhere, and what they settle later is refused.

How a worker ends that is told to stop while its loop is blocked: `worker.runtime.hard_exit`.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from worker.broker.lease import LeaseKeeper
from worker.execution.attempt import Attempt
from worker.runtime.lease_renewal import Renewing
from worker.system.loop_watch import LoopWatch

T = TypeVar("T")
logger = structlog.stdlib.get_logger("embarq.watchdog")

TICK = 0.05
LONGEST_MARGIN = 1.0
ENDS_WITHIN = 1.0
BLOCKED_AFTER = 1.0


@dataclass(frozen=True, slots=True)
class Watch:
    """What the watchdog looks at, and whom it tells. The callbacks run in the loop."""

    runs: Callable[[], list[Attempt]]
    lost: Callable[[list[Attempt]], None]
    aborted: Callable[[list[str]], None]


class Watchdog:
    """Runs beside the loop that creates it, between `start` and `stop`."""

    def __init__(self, keeper: LeaseKeeper, lease: float, watch: Watch) -> None:
        self._lease = lease
        self._watch = watch
        self._loop = asyncio.get_running_loop()
        self._loop_watch = LoopWatch(BLOCKED_AFTER, self._describe)
        self._renewing = Renewing(
            keeper,
            lease,
            watch.runs,
            lost=lambda runs: self._tell(watch.lost, runs),
            aborted=lambda job_ids: self._tell(watch.aborted, job_ids),
        )
        self._stop = threading.Event()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._work, name="watchdog", daemon=True)

    @property
    def blockages(self) -> int:
        """How often the loop stood still."""
        return self._loop_watch.blockages

    def start(self) -> None:
        """Begin."""
        self._renewing.start()
        self._thread.start()

    async def stop(self) -> None:
        """End. A renewal that hangs ends by itself, later."""
        self._renewing.stop()
        self._stop.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ENDS_WITHIN):
                await self._ended.wait()

    def _work(self) -> None:
        while not self._stop.wait(min(TICK, self._lease / 20)):
            try:
                self._loop_watch.look()
                self._watch_leases()
            except Exception:
                if self._loop.is_closed():
                    return
                logger.exception("watchdog fault")
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._ended.set)

    def _watch_leases(self) -> None:
        """Tell of leases that are about to end."""
        ending = time.monotonic() + min(LONGEST_MARGIN, self._lease / 10)
        late = [run for run in self._watch.runs() if run.leased_until <= ending]
        if late:
            self._tell(self._watch.lost, late)

    def _tell(self, callback: Callable[[T], None], news: T) -> None:
        self._loop.call_soon_threadsafe(callback, news)

    def _describe(self, task: "asyncio.Task[Any] | None") -> dict[str, Any]:
        """Whose task the loop is in."""
        run = next((run for run in self._watch.runs() if run.task is task), None)
        return {"job": run.context.job if run else None, "job_id": run.claimed.id if run else None}
