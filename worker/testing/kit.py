"""The test kit: a client, the jobs that were queued with it, and a way to run them to their end."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any, Self, TypeVar

from worker.core.config import WorkerConfig
from worker.core.errors import JobNotFound
from worker.core.job import Job
from worker.definition.definitions import JobDefinition
from worker.definition.registry import Registry
from worker.definition.registry import registry as default_registry
from worker.testing.asking import Asker
from worker.testing.cleaning import clean
from worker.testing.client import TaggedClient
from worker.testing.draining import DrainingWorker, raise_errors
from worker.testing.enqueued import Enqueued, matching
from worker.testing.replacing import replaced

T = TypeVar("T")


class Kit:
    """One test's part of a real queue. Jobs are queued as always, and nothing runs until `drain`."""

    def __init__(self, client: TaggedClient, registry: Registry) -> None:
        self.client = client
        self.registry = registry

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, registry: Registry = default_registry) -> AsyncIterator[Self]:
        """A kit on the Redis at a URL. Meanwhile `.enqueue(...)` of the registry's jobs uses its client, and
        `.enqueue_sync(...)` a second one; what they create is deleted at the end."""
        async with TaggedClient.open(url) as client:
            kit = cls(client, registry)
            asker = Asker(client)
            binding = registry.bind_sync(asker)
            try:
                with registry.bound_to(client):
                    yield kit
            finally:
                registry.unbind_sync(binding)
                asker.close()
                await clean(client)

    @property
    def enqueued(self) -> list[Enqueued]:
        """The jobs that were queued since the test began, also those that have run. A call that found an existing job
        is not among them."""
        return list(self.client.enqueued)

    def queue(self, name: str = "default") -> str:
        """The name of a queue in Redis during this test."""
        return self.client.queue(name)

    def assert_enqueued(self, job: JobDefinition[..., Any], /, **arguments: Any) -> Enqueued:
        """Assert that the job was queued with these arguments, whatever the others; the newest such call.

        Raises:
            AssertionError: it was not; the message lists what was.
            TypeError: the job takes no argument of that name.
        """
        found = matching(self.client.enqueued, job, arguments)
        if not found:
            wanted = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
            raise AssertionError(f"{job.name}({wanted}) was not enqueued; {self._told()}")
        return found[-1]

    def refute_enqueued(self, job: JobDefinition[..., Any], /, **arguments: Any) -> None:
        """Assert that the job was not queued with these arguments.

        Raises:
            AssertionError: it was.
            TypeError: the job takes no argument of that name.
        """
        found = matching(self.client.enqueued, job, arguments)
        if found:
            raise AssertionError(f"enqueued: {found[0]}")

    def _told(self) -> str:
        if not self.client.enqueued:
            return "nothing was"
        return "this was:" + "".join(f"\n  {each}" for each in self.client.enqueued[-20:])

    def replaced(self, kind: type[Any], stand_in: T) -> AbstractContextManager[T]:
        """In the block, `stand_in` is injected into jobs for a `kind`; see `worker.testing.replaced`."""
        return replaced(kind, stand_in, registry=self.registry)

    async def drain(self, *, raises: bool = True, most: int = 1000, timeout: float = 60.0) -> list[Job]:
        """Run what was queued to its end, and what that queues: delays and pauses before retries are skipped, rate
        limits do not count. Jobs run in this loop, several at once, as in a worker. Schedules do not fire.

        raises: raise what a failed job raised; an `ExceptionGroup` where several failed. most: starts of jobs, above
        which they are taken to queue themselves. timeout: seconds. Returns the jobs that ended, in order.

        Raises:
            AssertionError: there were too many starts, or too little time.
        """
        ended: list[str] = []
        errors: dict[str, BaseException] = {}
        try:
            async with asyncio.timeout(timeout):
                while queues := await self._waiting_queues():
                    worker = DrainingWorker(self.client, self.registry, self._config(queues), most)
                    await worker.async_run()
                    most -= worker.started
                    ended += worker.ended
                    errors |= worker.errors
                    if most < 0:
                        raise AssertionError("not drained: jobs keep being started; do they queue themselves?")
        except TimeoutError:
            left = [str(each) for each in self.client.enqueued if each.id not in ended]
            raise AssertionError(f"not drained after {timeout:g} s; not ended: {', '.join(left[:20])}") from None
        jobs = await self._jobs(ended)
        if raises:
            raise_errors(list(errors.values()))
        return jobs

    async def _waiting_queues(self) -> tuple[str, ...]:
        """All queues that were used and those that jobs declare, if there are jobs in them; none otherwise."""
        used = {each.queue for each in self.client.enqueued} | self.registry.queues
        queues = tuple(sorted(self.client.queue(name) for name in used))
        return queues if await self.client.holds_jobs(queues) else ()

    def _config(self, queues: tuple[str, ...]) -> WorkerConfig:
        """Like any worker, but no job waits for other workers, or for something to become available again."""
        return WorkerConfig(
            queues=queues,
            burst=True,
            schedules=False,
            poll=0.05,
            grace=1.0,
            unknown_job_deadline=-math.inf,
            outage_patience=0.0,
        )

    async def _jobs(self, ids: list[str]) -> list[Job]:
        found: list[Job] = []
        for job_id in ids:
            with contextlib.suppress(JobNotFound):  # with result_ttl=0
                found.append(await self.client.find(job_id))
        return found
