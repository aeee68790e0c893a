"""What a worker says of itself every few seconds, and what it looks at meanwhile: the server, and known queues."""

import contextlib
import os
import socket
import time
from collections.abc import Sized

import structlog

from worker.broker.inspect import WorkerRecord
from worker.broker.known_jobs import KnownJobs, told
from worker.client import Client
from worker.core import keys, wire
from worker.core.config import WorkerConfig
from worker.core.errors import ArgumentProblem, BrokerUnavailable, InvalidOptions
from worker.core.job import Priority
from worker.definition.registry import Registry
from worker.runtime.fetcher import Claiming
from worker.runtime.pace import Pace
from worker.runtime.tally import Tally

logger = structlog.stdlib.get_logger("embarq.worker")

INTERVAL = 3.0
BELIEVED_FOR = 3.5  # intervals
EVENTS_PART = 8  # of a server's memory that events may take: an eighth


class Heartbeat:
    """Tells Redis that a worker lives, which queues it serves and which jobs it knows, and hears which
    queues there are. `is_heard`: it has done so."""

    def __init__(
        self, client: Client, registry: Registry, config: WorkerConfig, claiming: Claiming, runs: Sized, tally: Tally
    ) -> None:
        """`runs`: the jobs that are here."""
        self._client = client
        self._registry = registry
        self._config = config
        self._claiming = claiming
        self._runs = runs
        self._tally = tally
        self._started_at = time.time()
        self._event_bytes = config.event_bytes
        self._pace = Pace()
        self._known = (0, KnownJobs())
        self.is_heard = False

    async def look_at_server(self) -> None:
        """See how much of its memory events may take, and say why it may lose jobs.

        Raises:
            BrokerUnavailable: Redis cannot serve it.
        """
        server = await self._client.inspector.server()
        self._event_bytes = server.share(self._config.event_bytes, EVENTS_PART)
        for warning in server.warnings:
            logger.warning("redis may lose jobs", reason=warning)

    async def refuse_other_keys(self) -> None:
        """Look at queues that are named by their keys: what else is there, is somebody's. It would be left alone, and
        the worker would wait for nothing.

        Raises:
            InvalidOptions: one holds something else.
        """
        served = [keys.queue_key(queue) for queue in self._claiming.service.queues]
        with contextlib.suppress(BrokerUnavailable):
            if wrong := await self._client.inspector.no_queues(served):
                raise InvalidOptions("worker", [ArgumentProblem(("queues",), told) for told in wrong.values()])

    async def run_once(self) -> None:
        """Say it.

        Raises:
            BrokerUnavailable: Redis cannot serve it.
        """
        known = self._know()
        record = WorkerRecord(
            id=self._claiming.worker,
            host=socket.gethostname(),
            pid=os.getpid(),
            queues=self._claiming.service.told(self._registry.queues),
            concurrency=self._config.concurrency,
            running=len(self._runs),
            started_at=self._started_at,
            rate=self._pace.measure(self._tally.ended),
            jobs=known.jobs,
            signatures=known.signatures,
            digests=known.digests,
        )
        levels = [keys.queue_key(queue, priority) for queue in self._claiming.served for priority in Priority]
        ttl_ms = int(INTERVAL * BELIEVED_FOR * 1000)
        said = wire.dumps(record)
        queues = await self._client.queue_store.heartbeat(
            self._claiming.worker, said, ttl_ms, levels, self._event_bytes
        )
        self.is_heard = True
        self._claiming.heard_of(queues)

    def _know(self) -> KnownJobs:
        """What is told of the jobs; thousands take some milliseconds, so it is made again only where there are more."""
        count = len(self._registry.names)
        if count != self._known[0]:
            names = (definition.name for definition in self._registry)
            self._known = (count, told(names, self._registry.signatures()))
        return self._known[1]

    async def say_goodbye(self) -> None:
        """Say that the worker is gone; where Redis is away, that shows by itself."""
        with contextlib.suppress(BrokerUnavailable):
            await self._client.queue_store.heartbeat(self._claiming.worker, b"", 0, ())
