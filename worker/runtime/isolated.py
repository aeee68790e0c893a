"""Workers for suspects alone: children of a worker of the command line, which goes on with other jobs meanwhile."""

import asyncio
import sys
from collections.abc import Container, Sequence

import structlog

from worker.broker.queue_selection import Service
from worker.broker.suspects import SuspectQueues
from worker.core.config import WorkerConfig
from worker.core.keys import SUSPECTS_TOGETHER
from worker.core.periodic import PeriodicTask, keep_all_running
from worker.core.stopping import StopPlan
from worker.runtime.supervisor import TICK, Slot

logger = structlog.stdlib.get_logger("embarq.worker")

LOOK_EVERY = 1.0
MOST_CHILDREN = 2


class IsolatedWorkers:
    """A background service of a worker: it looks every second whether suspects wait, and starts a child for them, at
    most two at a time. A child takes one group after the other, and ends when none waits.

    `plan`: when the worker stops, and its children with it; they end with its process, however that ended. `apart`:
    whether they have sessions of their own (`worker.runtime.supervisor`).
    """

    def __init__(self, suspects: SuspectQueues, config: WorkerConfig, plan: StopPlan, *, apart: bool) -> None:
        service = Service.read(config.queues)
        self._queues: Container[str] | None = None if service.serves_all else service.queues
        self._suspects = suspects
        self._command = [sys.executable, "-m", "worker.cli", "isolated-worker", *_arguments(config)]
        self._slots = [Slot(number) for number in range(MOST_CHILDREN)]
        self._plan = plan
        self._apart = apart

    async def run(self) -> None:
        """Do it until cancelled; all children have ended then."""
        try:
            await keep_all_running(
                PeriodicTask("isolated workers", LOOK_EVERY, self._start),
                PeriodicTask("end of isolated workers", TICK, self._tend),
            )
        finally:
            if not self._plan.is_on:
                self._plan.hurry()
            while any(slot.process is not None for slot in self._slots):
                await self._tend()
                await asyncio.sleep(TICK)

    async def _start(self) -> None:
        """Start what is missing, one child for each group that waits: of all workers that see it, the first to ask."""
        free = [slot for slot in self._slots if slot.process is None]
        if self._plan.is_on or not free:
            return
        waiting = await self._suspects.groups(self._queues)
        for queue_key, number in [(queue, number) for queue, groups in waiting.items() for number in range(groups)]:
            if not free:
                break
            if await self._suspects.reserve(queue_key, number):
                slot = free.pop()
                slot.start(self._command, apart=self._apart)
                logger.warning("jobs that lost their workers are run apart", queue=queue_key, child=slot.number)

    async def _tend(self) -> None:
        for slot in self._slots:
            if slot.process is not None and slot.process.poll() is not None:
                logger.info("isolated worker ended", child=slot.number, code=slot.process.returncode)
                slot.end()
            elif slot.process is not None and self._plan.is_on:
                slot.stop(self._plan)


def _arguments(config: WorkerConfig) -> Sequence[str]:
    together = min(SUSPECTS_TOGETHER, max(1, config.concurrency // 2))
    return ("-Q", ",".join(config.queues), "-c", str(together))
