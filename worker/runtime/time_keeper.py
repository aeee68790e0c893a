"""Keeps the time limits of running jobs, and leaves behind what does not end although it was cancelled."""

import time
from collections.abc import Callable
from typing import Any

import structlog

from worker.core.config import WorkerConfig
from worker.execution.attempt import Attempt, Stop
from worker.runtime.state import State

logger = structlog.stdlib.get_logger("embarq.worker")

INTERVAL = 0.05


class TimeKeeper:
    """`abandon` is called with jobs that do not end: they are settled without waiting, and others get their slots."""

    def __init__(self, state: State[Attempt, Any], config: WorkerConfig, abandon: Callable[[Attempt], None]) -> None:
        self._state = state
        self._cancel_grace = config.cancel_grace
        self._abandon = abandon

    async def run_once(self) -> None:
        """Look at all that runs."""
        now = time.monotonic()
        for run in list(self._state.leases):
            if not self._state.is_open(run):
                continue
            run.keep_limits(now)
            if run.stop is Stop.HANDED_BACK:  # nobody else may have it before this process ends, or must leave it
                continue
            if run.stopped_at is not None and now > run.stopped_at + self._cancel_grace:
                self._leave_behind(run)

    def _leave_behind(self, run: Attempt) -> None:
        if run.task is None or run.task.done():
            return
        stack = run.stack() if run.stack is not None else ""
        logger.error("job abandoned: it does not end", job_id=run.id, job=run.context.job, stack=stack)
        self._abandon(run)
