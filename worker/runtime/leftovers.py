"""What a burst leaves: jobs that this worker does not know, for workers that do."""

import time
from collections import Counter
from collections.abc import Callable

import structlog

from worker.broker.inspect import Inspector
from worker.broker.queue_selection import Service
from worker.core import keys
from worker.core.config import WorkerConfig
from worker.core.job import Priority
from worker.core.periodic import PeriodicTask, keep_running
from worker.core.wire import LONGEST_NAME
from worker.definition.registry import Registry

logger = structlog.stdlib.get_logger("embarq.worker")

NAMED = 10
NAMES_COUNTED, OTHERS = 1000, "others"
REST = 10  # times as long as a look took, before the next


class Leftovers:
    """A background service of a burst: ends it when nothing else is left in its queues, but for paused ones."""

    def __init__(self, inspector: Inspector, registry: Registry, config: WorkerConfig, end: Callable[[], None]) -> None:
        self._inspector = inspector
        self._registry = registry
        self._service = Service.read(config.queues)
        self._interval = config.poll
        self._end = end
        self._look_at = 0.0

    async def run(self) -> None:
        """Do it until cancelled."""
        await keep_running(PeriodicTask("leftovers", self._interval, self.run_once))

    async def run_once(self) -> None:
        """Look once, unless the last look took so long that it is too early.

        Raises:
            BrokerUnavailable: Redis cannot serve it.
        """
        begun = time.monotonic()
        if begun < self._look_at:
            return
        left = await self._strangers()
        self._look_at = time.monotonic() + REST * (time.monotonic() - begun)
        if left:
            names = dict(left.most_common(NAMED))
            logger.warning("burst leaves jobs that it does not know", jobs=left.total(), names=names)
            self._end()

    async def _strangers(self) -> Counter[str]:
        """How many jobs there are of each unknown name; nothing where one is left that is known, or cannot be read."""
        found: Counter[str] = Counter()
        for record in await self._inspector.queues():
            serves = self._service.serves_all or record.queue in self._service.queues
            if not serves or record.paused or not record.waiting + record.limited + record.later:
                continue
            for priority in Priority:
                async for name in self._inspector.names(keys.queue_key(record.queue, priority)):
                    if not name or name in self._registry.names:
                        return Counter()
                    found[name[:LONGEST_NAME] if len(found) < NAMES_COUNTED else OTHERS] += 1
        return found
