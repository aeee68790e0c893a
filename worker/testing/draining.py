"""Runs what a test has queued to its end: a worker for as long as something waits, for which time is skipped."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from importlib import resources

from worker.broker.exchange import Claim, Ended, Settlement
from worker.client import Client
from worker.core import keys
from worker.core.config import WorkerConfig
from worker.core.errors import JobFailed
from worker.core.job import Priority
from worker.definition.registry import Registry
from worker.runtime.worker import Worker
from worker.testing.client import TaggedClient
from worker.testing.executing import ToldExecutor

LOOK_EVERY = 0.01
LOOKED_AT = 1000
SKIP = (resources.files("worker.testing") / "skip.lua").read_text()


class DrainingWorker(Worker):
    """A worker that ends when no job is left, not even a deferred one: whenever there is nothing else to do, the next
    deferred job is made due. It also stops once it has started more than `most` jobs."""

    def __init__(self, client: TaggedClient, registry: Registry, config: WorkerConfig, most: int) -> None:
        super().__init__(client, registry, config, companions=[_TimeSkipper(client, config.queues, self._hurry)])
        self.executor = self._told = ToldExecutor(client, registry, config, self.id)
        self._ids = client.ids
        self._notes = client.notes
        self.most = most
        self.started = 0
        self.ended: list[str] = []

    def begin(self, claim: Claim, leased_until: float) -> None:
        """Start the jobs of a claim, and count them."""
        self.started += len(claim.jobs)
        self._notes.update(f"{keys.CLAIMED}{self.id}:{each.number}" for each in claim.jobs)
        if self.started > self.most:
            self.plan.hurry()
            self.follow_plan()
        super().begin(claim, leased_until)

    def settled(self, settlements: Sequence[Settlement], stored: Sequence[bool]) -> None:
        """Free the slots of jobs, and record which have ended."""
        ends = (each for each, accepted in zip(settlements, stored, strict=True) if accepted)
        self.ended += [self._ids.said(each.claimed.id) for each in ends if isinstance(each.outcome, Ended)]
        super().settled(settlements, stored)

    @property
    def errors(self) -> Mapping[str, BaseException]:
        """The exceptions of failed jobs, by their ids."""
        return self._told.told.errors

    async def main(self) -> None:
        """Work until nothing waits."""
        try:
            await super().main()
        finally:
            await self._told.end_deaf(list(self._abandoned))

    def _hurry(self) -> bool:
        """Whether time may be skipped, as nothing runs; also polls for due jobs at once."""
        self._pump.look()
        return not self.runs


class _TimeSkipper:
    def __init__(self, client: Client, queues: Sequence[str], may_skip: Callable[[], bool]) -> None:
        self._client = client
        self._may_skip = may_skip
        self._keys = [keys.queue_key(queue, priority) for queue in queues for priority in Priority]

    async def run(self) -> None:
        """Skip time until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if self._may_skip():
                arguments = (keys.LEASE, keys.PARKED_SCORE, LOOKED_AT)
                await self._client.redis.execute_command("EVAL", SKIP, len(self._keys), *self._keys, *arguments)


def raise_errors(errors: Sequence[BaseException]) -> None:
    """Raise the errors of jobs: a single one as it is, several as a group."""
    ordinary = [error if isinstance(error, Exception) else _wrapped(error) for error in errors]
    if len(ordinary) == 1:
        raise ordinary[0]
    if ordinary:
        raise ExceptionGroup(f"{len(ordinary)} jobs failed", ordinary)


def _wrapped(error: BaseException) -> JobFailed:
    """An error that would end the test itself, such as a cancellation, as an ordinary one."""
    failed = JobFailed(f"{type(error).__name__}: {error}")
    failed.__cause__ = error
    return failed
