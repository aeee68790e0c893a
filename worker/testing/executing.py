"""How a test's jobs run: as any others, but the test gets their errors, and all of them end."""

import asyncio
import contextlib
from asyncio.tasks import _unregister_task  # public, to whoever brings tasks of another kind
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import structlog

from worker.broker.exchange import Claimed
from worker.core import wire
from worker.core.config import WorkerConfig
from worker.definition.registry import Registry
from worker.execution.attempt import Attempt
from worker.execution.elsewhere import Elsewhere
from worker.execution.executor import Executor
from worker.execution.outcomes import Outcome, Outcomes
from worker.testing.client import TaggedClient

logger = structlog.stdlib.get_logger("embarq.testing")

TASKS_END_WITHIN = 1.0
KEPT: list[object] = []  # tasks that cannot be ended: if they were garbage-collected, their code would run once more


@dataclass(frozen=True)
class ToldOutcomes(Outcomes):
    """Outcomes that keep the exceptions of failed jobs for the test, by their ids."""

    errors: dict[str, BaseException] = field(default_factory=dict)

    def failed(self, run: Attempt, error: BaseException) -> Outcome:
        """The job has failed for good."""
        outcome = super().failed(run, error)
        error.add_note(f"raised by job {run.context.job!r}, id {run.context.job_id}, try {run.context.try_number}")
        self.errors[run.claimed.id] = error
        return outcome


class ToldExecutor(Executor):
    """Its jobs see the ids that the test uses. `told`: their outcomes."""

    def __init__(self, client: TaggedClient, registry: Registry, config: WorkerConfig, worker: str) -> None:
        super().__init__(
            registry, config, worker, client.queue_store, client.workflow_store, Elsewhere(client.inspector)
        )
        plain = self.outcomes
        self.outcomes = self.told = ToldOutcomes(plain.jobs, plain.config, plain.worker, plain.outages)
        self.refusals = replace(self.refusals, outcomes=self.told)
        self._ids = client.ids

    def prepare(self, claimed: Claimed) -> Attempt:
        """A run for a claimed job."""
        run = super().prepare(claimed)
        run.context.job_id = self._ids.said(claimed.id)
        return run

    def _read(self, run: Attempt) -> wire.Payload:
        payload = super()._read(run)
        if payload.options.workflow is not None:
            run.context.workflow_id = self._ids.said(payload.options.workflow)
        return payload

    async def end_deaf(self, abandoned: Iterable[Attempt]) -> None:
        """End jobs that swallow their cancellation: the test's loop would never finish waiting for them when it closes.
        Their coroutines are closed, which raises GeneratorExit at their `await`, and `except CancelledError` does not
        catch that; if not even that helps, their tasks are removed from those that the loop waits for."""
        tasks: list[asyncio.Task[object]] = []
        for run in abandoned:
            if run.task is None or run.task.done():
                continue
            stack = run.stack() if run.stack is not None else ""
            context = run.context
            logger.error("job swallows its cancellation", job=context.job, job_id=context.job_id, stack=stack)
            with contextlib.suppress(BaseException):  # whatever it raises then
                if run.coroutine is not None:
                    run.coroutine.close()
            run.task.cancel()
            tasks.append(run.task)
        if not tasks:
            return
        _, deaf = await asyncio.wait(tasks, timeout=TASKS_END_WITHIN)
        for task in deaf:
            _unregister_task(task)
            KEPT.append(task)
