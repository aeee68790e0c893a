"""Whether arguments that do not fit here may fit elsewhere: a live worker of another version of the code."""

import asyncio
import time
from collections.abc import Callable, Sequence

from worker.broker.inspect import Inspector, WorkerRecord
from worker.broker.queue_selection import serving
from worker.core.errors import BrokerUnavailable
from worker.definition.definitions import JobDefinition

BELIEVED = 2.0  # seconds that a look at the workers is good for
LONGEST_LOOK = 1.0


class Elsewhere:
    """What other live workers say of the jobs that they know. All jobs of a worker share one look, for some seconds."""

    def __init__(self, inspector: Inspector, clock: Callable[[], float] = time.monotonic) -> None:
        self._inspector = inspector
        self._clock = clock
        self._workers: Sequence[WorkerRecord] = ()
        self._good_until = 0.0
        self._looking = asyncio.Lock()

    async def may_fit(self, name: str, definition: JobDefinition[..., object], queue: str) -> bool:
        """Whether a live worker of `queue` takes other arguments for the job `name` than `definition` does.

        True also where Redis cannot tell: then it is too early to say that they fit nobody.
        """
        try:
            async with asyncio.timeout(LONGEST_LOOK):
                workers = await self._live()
        except (BrokerUnavailable, TimeoutError):
            return True
        return any(worker.may_differ(name, definition.schema.digest) for worker in serving(workers, queue))

    async def _live(self) -> Sequence[WorkerRecord]:
        async with self._looking:
            if self._clock() >= self._good_until:
                self._workers = await self._inspector.workers()
                self._good_until = self._clock() + BELIEVED
            return self._workers
