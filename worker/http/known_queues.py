"""Which queues a client may name. A name costs every claim of a worker a little, for as long as it is known."""

import asyncio
import time
from collections.abc import Iterable

from worker.broker.queue_selection import Service
from worker.client import Client
from worker.core.errors import ArgumentProblem, InvalidOptions
from worker.core.keys import BY_KEY, DEFAULT
from worker.definition.registry import Registry

HEARD_FOR = 5.0  # seconds for which the list of live workers is cached


def declared_queues(registry: Registry, routes: Iterable[tuple[str, str]], served: tuple[str, ...]) -> frozenset[str]:
    """The queues that the code and the settings name: of jobs and their schedules, of routes, and of workers."""
    names = {DEFAULT, *(definition.queue for definition in registry), *(queue for _, queue in routes)}
    names |= {str(record.options["queue"]) for record in registry.schedules if "queue" in record.options}
    return frozenset(names | set(Service.read(served).queues))


class KnownQueues:
    """Those that are declared, and those that a live worker serves by name; with `is_open`, any but those that are
    named by their keys in Redis, where other programs may keep their data."""

    def __init__(self, client: Client, declared: frozenset[str], *, is_open: bool) -> None:
        self._client = client
        self._declared = declared
        self._is_open = is_open
        self._served: frozenset[str] = frozenset()
        self._heard_at = -HEARD_FOR
        self._asking: asyncio.Task[frozenset[str]] | None = None

    async def unknown(self, names: Iterable[str]) -> frozenset[str]:
        """Those of the names that are unknown. Workers are looked up only where a name is not declared.

        Raises:
            BrokerUnavailable: Redis did not say which workers there are.
        """
        strange = frozenset(names) - self._declared
        if self._is_open and strange:
            strange = frozenset(name for name in strange if name.startswith(BY_KEY))
        return strange - await self._heard() if strange else strange

    async def check(self, job: str, names: Iterable[str]) -> None:
        """Check that a call goes to known queues.

        Raises:
            InvalidOptions: one is not.
            BrokerUnavailable: Redis did not say which workers there are.
        """
        unknown = await self.unknown(names)
        if unknown:
            raise refused(job, min(unknown))

    async def is_known(self, name: str) -> bool:
        """Whether a queue may be paused, resumed or purged: also one that only plain arq clients use."""
        if not await self.unknown([name]):
            return True
        return any(record.queue == name for record in await self._client.queues())

    async def _heard(self) -> frozenset[str]:
        """Concurrent callers share one query, and its failure."""
        if time.monotonic() - self._heard_at < HEARD_FOR:
            return self._served
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask(), name="known queues")
            self._asking.add_done_callback(self._asked)
        return await asyncio.shield(self._asking)

    async def _ask(self) -> frozenset[str]:
        workers = await self._client.workers()
        self._served = frozenset(queue for worker in workers for queue in worker.queues)
        self._heard_at = time.monotonic()
        return self._served

    def _asked(self, asking: "asyncio.Task[frozenset[str]]") -> None:
        self._asking = None
        if not asking.cancelled():
            asking.exception()  # marks it as retrieved: those who waited got it, and all may be gone


def refused(job: str, queue: str) -> InvalidOptions:
    """The error of a call to an unknown queue."""
    or_open = "" if queue.startswith(BY_KEY) else ", or set EMBARQ_OPEN_QUEUES=1"
    message = (
        f"must be a known queue, and {queue!r} is not: no job declares it and no worker serves it; "
        f"start a worker with -Q {queue}{or_open}"
    )
    return InvalidOptions(job, [ArgumentProblem(("options", "queue"), message)])
