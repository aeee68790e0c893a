"""A thread beside the event loop: it keeps the leases, and sees when a job blocks the loop.

Promised: while this thread runs, a job that blocks the loop does not lose its lease, and a job whose lease could not be
renewed in time is cancelled before anybody else may start it. Not promised: a process that is stopped whole (SIGSTOP, a
frozen machine), or a call into C that holds the interpreter's lock, keeps nothing; its jobs start elsewhere, and what
it settles later is refused.
"""

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from worker.broker.broker import Renewal
from worker.broker.lease import LeaseKeeper
from worker.errors import BrokerUnavailable
from worker.run import Run

logger = structlog.stdlib.get_logger("embarq.guardian")

TICK = 0.1
BLOCKED_AFTER = 1.0
FRAMES_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Watch:
    """What the guardian looks at, and whom it tells. The callbacks run in the loop."""

    runs: Callable[[], list[Run]]
    lost: Callable[[list[Run]], None]
    aborted: Callable[[list[str]], None]


class Guardian:
    """Runs beside the loop that creates it, between `start` and `stop`. `blockages` counts blocked loops."""

    def __init__(self, keeper: LeaseKeeper, lease: float, watch: Watch) -> None:
        self._keeper = keeper
        self._lease = lease
        self._watch = watch
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="guardian", daemon=True)
        self._beat_at = time.monotonic()
        self._reported = False
        self._renew_at = 0.0
        self.blockages = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    async def stop(self) -> None:
        """End, and close the connection."""
        self._stop.set()
        await asyncio.to_thread(self._thread.join, 2 * self._lease)

    def _work(self) -> None:
        self._renew_at = time.monotonic() + self._lease / 3
        while not self._stop.wait(min(TICK, self._lease / 10)):
            try:
                self._watch_loop()
                self._keep_leases()
            except Exception:
                if self._loop.is_closed():
                    break
                logger.exception("guardian fault")
        self._keeper.close()

    def _keep_leases(self) -> None:
        now = time.monotonic()
        runs = self._watch.runs()
        if now >= self._renew_at:
            self._renew_at = now + self._lease / 3
            if runs:
                self._renew(runs, now)
        late = [run for run in runs if time.monotonic() >= run.leased_until]
        if late:
            self._tell(self._watch.lost, late)

    def _renew(self, runs: list[Run], now: float) -> None:
        try:
            renewed = self._keeper.renew(
                int(self._lease * 1000), [Renewal(run.claimed, limits=run.held_limits) for run in runs]
            )
        except BrokerUnavailable as error:
            self._renew_at = now + min(1.0, self._lease / 10)
            logger.warning("leases not renewed", reason=str(error), jobs=len(runs))
            return
        lost = set(renewed.lost)
        for run in runs:
            if run.claimed.id not in lost:
                run.leased_until = now + self._lease
        if lost:
            self._tell(self._watch.lost, [run for run in runs if run.claimed.id in lost])
        if renewed.aborted:
            self._loop.call_soon_threadsafe(self._watch.aborted, renewed.aborted)

    def _tell(self, callback: Callable[[list[Run]], None], runs: list[Run]) -> None:
        self._loop.call_soon_threadsafe(callback, runs)

    def _watch_loop(self) -> None:
        blocked = time.monotonic() - self._beat_at
        if blocked < BLOCKED_AFTER:
            self._reported = False
            self._loop.call_soon_threadsafe(self._beat)
        elif not self._reported:  # a beat is on its way, and comes when the loop moves again
            self._reported = True
            self.blockages += 1
            self._report(blocked)

    def _beat(self) -> None:
        self._beat_at = time.monotonic()

    def _report(self, blocked: float) -> None:
        task = asyncio.current_task(self._loop)
        run = next((run for run in self._watch.runs() if run.task is task), None)
        frame = sys._current_frames().get(self._loop_thread)
        stack = "".join(traceback.format_stack(frame)[-FRAMES_SHOWN:]) if frame else ""
        logger.error(
            "the event loop is blocked",
            seconds=round(blocked, 1),
            job=run.context.job if run else None,
            job_id=run.claimed.id if run else None,
            stack=stack,
        )
