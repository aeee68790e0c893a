"""One try of one job, as named steps: read, admit, resolve, validate, run."""

import asyncio
import contextvars
import os
import time
from collections.abc import Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, cast

import structlog
from pydantic import ValidationError

from worker.broker.exchange import Claimed
from worker.broker.queue_store import QueueStore
from worker.broker.workflow_store import WorkflowStore
from worker.core import keys, wire
from worker.core.config import WorkerConfig
from worker.core.context import CONTEXT, Context, Stopping
from worker.core.errors import (
    BrokerUnavailable,
    InvalidArguments,
    SoftTimeLimitExceeded,
    WorkflowDamaged,
    WorkflowNotFound,
)
from worker.core.queue_client import QueueClient
from worker.definition.definitions import JobDefinition
from worker.definition.registry import Registry
from worker.execution.attempt import Attempt, Interruptible, Stop
from worker.execution.elsewhere import Elsewhere
from worker.execution.hook_calls import HookCalls
from worker.execution.idempotency import LeasedSteps
from worker.execution.outages import Outages
from worker.execution.outcomes import Outcome, Outcomes
from worker.execution.processes.pool import Processes
from worker.execution.refusals import Refusals, Refused
from worker.execution.threads import JobThread
from worker.execution.workflow_input import read_input
from worker.observability.batched_log_handler import BatchedLogger

logger = structlog.stdlib.get_logger("embarq.job")
lines = BatchedLogger("embarq.job")

UNFIT = (ValidationError, RecursionError)  # what the check of arguments raises
AT_ONCE = nullcontext()


class Executor:
    """Runs claimed jobs. `execute` never raises: whatever happens becomes an outcome."""

    def __init__(
        self,
        registry: Registry,
        config: WorkerConfig,
        worker: str,
        queue_store: QueueStore,
        workflow_store: WorkflowStore,
        elsewhere: Elsewhere,
    ) -> None:
        self._elsewhere = elsewhere
        self._registry = registry
        self._jobs = registry.by_name
        self._queue_store = queue_store
        self._workflow_store = workflow_store
        self._config = config
        self.outcomes = Outcomes(self._jobs, config, worker, Outages(config.outage_patience))
        self.refusals = Refusals(self.outcomes, config)
        self._processes = Processes(os.cpu_count() or 1, config.max_result)
        self.resources: Mapping[type, object] = {}
        self.client: QueueClient | None = None
        self.stopping = Stopping()
        self.hooks = HookCalls(registry.hooks)

    def prepare(self, claimed: Claimed) -> Attempt:
        """A run for a claimed job, before its task exists."""
        queue, _ = keys.parse_queue_key(claimed.queue_key)
        context = Context(
            job_id=claimed.id,
            job="?",
            try_number=claimed.tries,
            queue=queue,
            stopping=self.stopping,
            resources=self.resources,
            steps=LeasedSteps(self._queue_store, claimed, self._config.max_result),
            enqueued_ms=claimed.claimed_ms,
            workers_client=self.client,
        )
        hooks = self._registry.hooks
        hooked = hooks.start or hooks.end or hooks.after
        return Attempt(claimed, context, inside=contextvars.copy_context() if hooked else None)

    async def execute(self, run: Attempt) -> Outcome | None:
        """Run one try to its outcome; None when its lease is lost, and with it the right to settle."""
        CONTEXT.set(run.context)
        run.has_begun = True
        if time.monotonic() > run.leased_until:  # the process was frozen between the claim and now
            run.stop = Stop.LEASE_LOST
            return self.outcomes.stopped(run, None)
        try:
            payload = self._read(run)
            if run.stop is not None:
                return self.outcomes.stopped(run, None)
            self._admit(run, payload)
            definition = self._resolve(run, payload)
            taken = await self._take_input(run, payload) if payload.options.input_name else {}
            arguments = await self._validate(run, payload, definition, taken)
            return await self._run(run, payload, definition, arguments)
        except Refused as refusal:
            return refusal.outcome
        except asyncio.CancelledError as error:
            return self.outcomes.stopped(run, error)
        except BaseException as error:  # a fault of our own must not take the worker's other jobs with it
            logger.exception("engine fault", job_id=run.claimed.id)
            return self.outcomes.failed(run, error)

    def _read(self, run: Attempt) -> wire.Payload:
        claimed, context = run.claimed, run.context
        try:
            payload = wire.PAYLOADS.decode(claimed.payload)
        except wire.UNREADABLE as error:
            raise self.refusals.unread(run) from error
        run.payload = payload
        context.job = payload.job
        context.workflow_id = payload.options.workflow
        context.enqueued_ms = payload.enqueued_ms
        if payload.first_try:
            context.try_number = claimed.tries + payload.first_try - 1
        run.log_fields = {"job": payload.job, "job_id": context.job_id, "try": context.try_number}
        return payload

    def _admit(self, run: Attempt, payload: wire.Payload) -> None:
        """Refuse what was cancelled, has expired, or ended its workers, the last one while nothing ran beside it."""
        claimed, expires = run.claimed, payload.options.expires_in_ms
        if claimed.aborted:
            raise self.refusals.cancelled(run)
        if expires is not None and claimed.claimed_ms > payload.enqueued_ms + expires:
            raise self.refusals.expired(run, expires)
        if claimed.was_alone and claimed.leases_lost >= self._config.leases_lost_limit:
            raise self.refusals.poisoned(run)

    def _resolve(self, run: Attempt, payload: wire.Payload) -> JobDefinition[..., Any]:
        definition = self._jobs.get(payload.job)
        if definition is None:
            raise self.refusals.unknown(run, payload)
        return definition

    async def _take_input(self, run: Attempt, payload: wire.Payload) -> dict[str, Any]:
        try:
            return await read_input(self._workflow_store, payload.options)
        except BrokerUnavailable as error:
            raise self.refusals.input_unavailable(error) from error
        except (WorkflowNotFound, WorkflowDamaged) as error:
            raise self.refusals.input_lost(run, error) from error

    async def _validate(
        self, run: Attempt, payload: wire.Payload, definition: JobDefinition[..., Any], taken: Mapping[str, Any]
    ) -> dict[str, Any]:
        schema = definition.schema
        if not (payload.args or taken) and len(payload.kwargs) <= schema.most_values:
            try:
                return schema.check(payload.kwargs)
            except UNFIT:
                pass  # what is wrong with them, is said below
        try:
            return schema.validate(schema.bind(tuple(payload.args), {**payload.kwargs, **taken}))
        except InvalidArguments as error:
            elsewhere = await self._elsewhere.may_fit(payload.job, definition, run.context.queue)
            raise self.refusals.unfit(run, payload, error, may_fit_elsewhere=elsewhere) from error

    async def _run(
        self, run: Attempt, payload: wire.Payload, definition: JobDefinition[..., Any], arguments: dict[str, Any]
    ) -> Outcome | None:
        try:
            async with self._room() if definition.in_process else AT_ONCE:
                waited = (run.claimed.claimed_ms - payload.enqueued_ms) / 1000
                lines.info("started", {**run.log_fields, "waited": waited})
                if run.inside is not None:
                    await self.hooks.started(run)
                run.limit(*self._limits(payload, definition))
                result = await self._call(run, definition, arguments)
        except BaseException as error:  # whatever it is, the job raised it, or was cancelled
            outcome = self.outcomes.after(run, error)
        else:
            run.result = result if run.has_hooks else None
            outcome = self.outcomes.returned(run, result)
        if run.has_hooks:
            await self.hooks.ended(run, outcome)
        return None if run.stop is Stop.LEASE_LOST else outcome

    async def close(self) -> None:
        """End hooks that are under way, and the processes of jobs."""
        await self.hooks.close()
        await self._processes.close()

    async def _call(self, run: Attempt, definition: JobDefinition[..., Any], arguments: dict[str, Any]) -> object:
        """A coroutine runs in this loop, a plain function in a thread or process with the same context variables."""
        if definition.is_async:
            if definition.schema.injected:
                run.coroutine = self._with_resources(run, definition, arguments)
            else:
                first = (run.context,) if definition.schema.takes_context else ()
                run.coroutine = cast(Coroutine[Any, Any, object], definition.function(*first, **arguments))
            job = Interruptible(run.coroutine, lambda: run.stop is not None)
            run.interrupt = lambda: job.interrupt(SoftTimeLimitExceeded(run.soft_limit))
            run.stack = job.stack
            try:
                return await job
            finally:  # they lead back to the run: what is no circle, the garbage collector need not find
                run.interrupt = run.stack = run.coroutine = None
        if definition.in_process:
            return await self._in_process(run, definition, arguments)
        return await self._in_thread(run, definition, arguments)

    def _room(self) -> AbstractAsyncContextManager[None]:
        """A job for a process waits until one is free; its clocks start then."""
        return self._processes.slots

    async def _in_process(self, run: Attempt, definition: JobDefinition[..., Any], arguments: dict[str, Any]) -> object:
        return await self._processes.run(definition.function, arguments, run)

    async def _in_thread(self, run: Attempt, definition: JobDefinition[..., Any], arguments: dict[str, Any]) -> object:
        async with self._registry.given(definition.schema.injected, run.context) as given:
            every = {**arguments, **given}
            function = definition.bound(run.context, every)
            thread = JobThread(f"job {run.claimed.id}", function, run.lift_limits)
            run.interrupt = lambda: thread.interrupt(SoftTimeLimitExceeded)
            run.stack = thread.stack
            return await thread.run()

    async def _with_resources(
        self, run: Attempt, definition: JobDefinition[..., Any], arguments: dict[str, Any]
    ) -> object:
        """What is opened for this try is closed inside it: a session that cannot commit makes the try fail."""
        async with self._registry.given(definition.schema.injected, run.context) as given:
            return await cast(Coroutine[Any, Any, object], definition.invoke(run.context, (), arguments | given))

    def _limits(self, payload: wire.Payload, definition: JobDefinition[..., Any]) -> tuple[float | None, float]:
        """Soft and hard limit in seconds: the call's, else the job's, else the worker's.

        A soft limit that was not asked for is left out where it would come after the hard one.
        """
        asked, declared = payload.options, definition.declared
        hard = declared.get("timeout", self._config.timeout) if asked.timeout_ms is None else asked.timeout_ms / 1000
        if asked.soft_timeout_ms is not None:
            return asked.soft_timeout_ms / 1000, hard
        soft = declared.get("soft_timeout", self._config.soft_timeout)
        return (soft if soft < hard else None), hard
