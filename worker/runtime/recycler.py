"""Ends a worker that has done, or taken, as much as it may, so that a fresh process is to take its place."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from worker.core.config import WorkerConfig
from worker.runtime.tally import Tally
from worker.system.memory import resident_megabytes

INTERVAL = 0.5


@dataclass(frozen=True, slots=True)
class Recycler:
    """`recycle` is called when it is enough, again and again until the worker has ended: with how many jobs have ended,
    and the megabytes taken (0 where these are not bounded)."""

    config: WorkerConfig
    tally: Tally
    recycle: Callable[[int, float], None]

    async def run_once(self) -> None:
        """Look whether it is, whatever the worker does just now."""
        most_jobs, most_megabytes = self.config.recycle_jobs, self.config.recycle_megabytes
        megabytes = resident_megabytes() if most_megabytes else 0.0
        if self.tally.ended >= (most_jobs or math.inf) or megabytes >= (most_megabytes or math.inf):
            self.recycle(self.tally.ended, megabytes)
