"""Runs what a test has queued to its end: a worker for as long as something waits, for which time is skipped."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from importlib import resources

from worker.broker.exchange import Ack, Ended
from worker.client import Client
from worker.core import keys
from worker.core.config import WorkerConfig
from worker.core.errors import JobFailed
from worker.core.job import Priority
from worker.definition.registry import Registry
from worker.execution.attempt import Attempt
from worker.execution.executor import Executor
from worker.runtime import events
from worker.runtime.actions import Begin, Finish
from worker.runtime.events import Notified
from worker.runtime.fetcher import Fetcher
from worker.runtime.listener import Listener
from worker.runtime.runner import Runner
from worker.runtime.state import State
from worker.runtime.worker import Worker
from worker.testing.client import TaggedClient
from worker.testing.executing import ToldExecutor

LOOK_EVERY = 0.01  # seconds; every look also polls, so that a test does not wait for the poll interval
LOOKED_AT = 1000  # deferred jobs of a queue per look: the script holds up Redis for as long as it runs
SKIP = (resources.files("worker.testing") / "skip.lua").read_text()


class _CountingRunner(Runner):
    """Counts starts, and notes which claims came and which jobs have ended."""

    def __init__(self, state: State[Attempt, Ack], executor: Executor, fetcher: Fetcher, listener: Listener) -> None:
        super().__init__(state, executor, fetcher, listener)
        self.started = 0
        self.claims: set[str] = set()
        self.ended_ids: list[str] = []

    def begin(self, begin: Begin[Attempt]) -> None:
        """Start jobs that a claim brought."""
        self.started += len(begin.jobs)
        self.claims |= {run.claimed.number for run in begin.jobs}
        super().begin(begin)

    def finish(self, finish: Finish[events.Ended[Attempt, Ack]]) -> None:
        """Outcomes are stored, or refused."""
        for ended, stored in zip(finish.ended, finish.stored, strict=True):
            if stored and ended.ack is not None and isinstance(ended.ack.outcome, Ended):
                self.ended_ids.append(ended.job.id)
        super().finish(finish)


class DrainingWorker(Worker):
    """A worker that ends when no job is left, not even a deferred one: whenever there is nothing else to do, the next
    deferred job is made due. It also stops once it has started more than `most` jobs."""

    _runner_type = _CountingRunner
    runner: _CountingRunner

    def __init__(self, client: TaggedClient, registry: Registry, config: WorkerConfig, most: int) -> None:
        self._tagged = client
        self._most = most
        super().__init__(client, registry, config, services=[_TimeSkipper(client, config.queues, self._may_skip)])

    def _make_executor(self) -> Executor:
        self._told = ToldExecutor(self._tagged, self.registry, self.config, self.id)
        return self._told

    @property
    def started(self) -> int:
        """How many jobs it has started."""
        return self.runner.started

    @property
    def ended(self) -> list[str]:
        """The ids of those that have ended, in order."""
        return [self._tagged.ids.said(job_id) for job_id in self.runner.ended_ids]

    @property
    def errors(self) -> Mapping[str, BaseException]:
        """The exceptions of failed jobs, by their ids."""
        return self._told.told.errors

    async def async_run(self) -> None:
        """Work until nothing waits."""
        try:
            await super().async_run()
        finally:
            self._tagged.notes.update(f"{keys.CLAIMED}{self.id}:{number}" for number in self.runner.claims)
            await self._told.end_deaf(list(self.runner.abandoned))

    def _may_skip(self) -> bool:
        """Whether time may be skipped, as nothing runs; also polls for due jobs at once."""
        if self.started > self._most and not self.plan.is_on:
            self.plan.hurry()
            self.follow_plan()
        self.runner.tell(Notified())
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
