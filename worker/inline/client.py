"""A client whose jobs run in the calling process, before the call that enqueues them returns."""

import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import groupby
from typing import Any, TypeVar

from worker.broker.batcher import Batcher
from worker.broker.pool import Pool
from worker.broker.queue_store import EnqueueResult, NewJob
from worker.client import Client
from worker.client.sync import lent
from worker.core import wire
from worker.core.calls import Call
from worker.core.config import WorkerConfig
from worker.core.errors import JobNotFound
from worker.core.handle import JobHandle, WorkflowHandle
from worker.core.inline_mode import NOWHERE
from worker.core.job import Job
from worker.core.late_outbox import LateOutbox
from worker.core.workflow_graph import Flow, WorkflowOptions, signatures
from worker.definition.registry import Registry
from worker.definition.registry import registry as default_registry
from worker.inline.queue import InlineQueue
from worker.inline.runner import Runner
from worker.inline.stand_ins import InlineCompletions, InlineInspector, InlineQueueStore, InlineWorkflowStore, NoRedis

R = TypeVar("R")

DEFAULTS = WorkerConfig()


class _AtOnce(Batcher):
    """Runs each job in its own call, as a running job may enqueue others."""

    async def add(self, job: NewJob) -> EnqueueResult:
        """Run a job, or find the one that stands for it."""
        (placed,) = await self._send([job])
        return placed


class InlineClient(Client):
    """The same methods as `Client`, without Redis. What needs Redis, such as pausing a queue, raises `NotInline`."""

    def __init__(self, registry: Registry, queue: InlineQueue, *, max_arguments: int = wire.LARGEST) -> None:
        super().__init__(NOWHERE, max_arguments=max_arguments)
        self._registry = registry
        self._queue = queue
        self.queue_store = InlineQueueStore(self.redis, queue)
        self.workflow_store = InlineWorkflowStore(self.redis, self._budget, queue, self._runner)
        self.inspector = InlineInspector(self.redis, queue)
        self._completions = InlineCompletions(self.connections, queue)
        self._batcher = _AtOnce(self._enqueue, self._budget.seconds)
        self.outbox = LateOutbox("worker.inline.outbox", self._queue_later)

    async def enqueue(self, call: Call[R]) -> JobHandle[R]:
        """Run one call; it has ended, one way or another, when this returns. See `Client.enqueue`.

        Raises:
            InlineTooDeep: jobs enqueue jobs without end.
            Exception: a resource could not be opened.
        """
        return await Client.enqueue(self._of(call.definition.registry), call)

    async def enqueue_many(self, calls: Iterable[Call[R]]) -> list[JobHandle[R]]:
        """Run many calls, one after the other; see `Client.enqueue_many`."""
        handles: list[JobHandle[R]] = []
        for registry, own in groupby(calls, lambda call: call.definition.registry):
            handles += await Client.enqueue_many(self._of(registry), own)
        return handles

    async def start(self, flow: Flow, options: WorkflowOptions) -> WorkflowHandle:
        """Run a workflow, its steps one after the other; see `Client.start`."""
        first = next(signatures(flow), None)
        home = self if first is None else self._of(first.definition.registry)
        return await Client.start(home, flow, options)

    async def jobs(self) -> list[Job]:
        """All jobs that are remembered, in the order in which they ended."""
        found = []
        for job_id in self._queue.memory.ids():
            with contextlib.suppress(JobNotFound):
                found.append(await self.find(job_id))
        return found

    def _connect(self, url: str, *, size: int, verify_tls: bool) -> Pool:
        return NoRedis()

    async def _enqueue(self, jobs: Sequence[NewJob]) -> list[EnqueueResult]:
        return [await self._queue.put(self._runner(), job) for job in jobs]

    async def _queue_later(self, call: Call[Any], job: NewJob) -> None:
        await self._of(call.definition.registry)._enqueue([job])

    def _runner(self) -> Runner:
        own = partial(InlineClient, self._registry, self._queue, max_arguments=self.max_arguments)
        return self._queue.runner(self._registry, own)

    def _of(self, registry: object) -> "InlineClient":
        """The client for the jobs of a registry."""
        if registry is self._registry or not isinstance(registry, Registry):
            return self
        return InlineClient(registry, self._queue, max_arguments=self.max_arguments)


@asynccontextmanager
async def inline(
    registry: Registry = default_registry, *, config: WorkerConfig = DEFAULTS
) -> AsyncIterator[InlineClient]:
    """In the block, `.enqueue(...)` runs the registry's jobs in this process, with an empty memory.

        async with inline() as client:
            handle = await send_welcome_email.enqueue(user_id=7)
            assert await handle.result()

    `config`: max_tries, time limits, result_ttl and max_result for jobs that declare none.
    """
    queue = InlineQueue(config)
    client = InlineClient(registry, queue)
    try:
        with registry.bound_to(client), lent(client, registry):
            yield client
    finally:
        await queue.close()
