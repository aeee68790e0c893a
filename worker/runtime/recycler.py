"""When a worker process has done, or taken, as much as it may, so that a fresh one is to take its place."""

import math
from dataclasses import dataclass

from worker.core.config import WorkerConfig
from worker.system.memory import resident_megabytes

INTERVAL = 0.5


@dataclass(frozen=True, slots=True)
class Used:
    """What a process has done and taken; the memory only where that is bounded."""

    jobs: int
    megabytes: float

    def is_enough(self, config: WorkerConfig) -> bool:
        """Whether it is as much as a worker may."""
        most_jobs, most_megabytes = config.recycle_jobs or math.inf, config.recycle_megabytes or math.inf
        return self.jobs >= most_jobs or self.megabytes >= most_megabytes


def used(jobs: int, config: WorkerConfig) -> Used:
    """What this process has used up to now; `jobs`: the tries that it has ended."""
    return Used(jobs, resident_megabytes() if config.recycle_megabytes else 0)
