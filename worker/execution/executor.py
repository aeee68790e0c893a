"""One try of one job, as named steps: read, admit, resolve, validate, run."""

import asyncio
import contextvars
import os
import time
from collections.abc import Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, cast

import structlog

from worker.broker.exchange import Claimed, PutBack
from worker.broker.queue_store import Broker
from worker.broker.workflow_store import Graphs
from worker.core import keys, wire
from worker.core.config import WorkerConfig
from worker.core.context import Context, Stopping, enter_context
from worker.core.errors import (
    BrokerUnavailable,
    EmbarqError,
    InvalidArguments,
    MalformedPayload,
    SoftTimeLimitExceeded,
    UnknownJob,
    WorkflowDamaged,
    WorkflowNotFound,
)
from worker.core.job import State
from worker.definition.definitions import JobDefinition
from worker.definition.registry import Registry
from worker.execution.attempt import Run, Stop
from worker.execution.elsewhere import Elsewhere
from worker.execution.hook_calls import HookCalls
from worker.execution.idempotency import LeasedSteps
from worker.execution.interrupt import Interruptible
from worker.execution.outages import Outages
from worker.execution.outcomes import Outcome, Outcomes, failure
from worker.execution.processes.pool import Processes
from worker.execution.threads import JobThread
from worker.observability.batched_log_handler import LineLogger

logger = structlog.stdlib.get_logger("embarq.job")
lines = LineLogger("embarq.job")

UNKNOWN_JOB_PAUSE = (1.0, 30.0)
INPUT_PAUSE_MS = 500


class _Refused(Exception):  # it is a step's answer, not an error
    """A step ends the try before the job's function runs."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome


class Executor:
    """Runs claimed jobs. `execute` never raises: whatever happens becomes an outcome."""

    def __init__(
        self,
        registry: Registry,
        config: WorkerConfig,
        worker: str,
        broker: Broker,
        graphs: Graphs,
        elsewhere: Elsewhere,
    ) -> None:
        self._elsewhere = elsewhere
        self._registry = registry
        self._broker = broker
        self._graphs = graphs
        self._config = config
        self.outcomes = Outcomes(registry, config, worker, Outages(config.outage_patience))
        self._processes = Processes(os.cpu_count() or 1, config.max_result)
        self.resources: Mapping[type, object] = {}
        self.stopping = Stopping()
        self.hooks = HookCalls(registry.hooks)

    def prepare(self, claimed: Claimed) -> Run:
        """A run for a claimed job, before its task exists."""
        queue, _ = keys.parse_queue_key(claimed.queue_key)
        context = Context(
            job_id=claimed.id,
            job="?",
            try_number=claimed.tries,
            queue=queue,
            stopping=self.stopping,
            resources=self.resources,
            steps=LeasedSteps(self._broker, claimed, self._config.max_result),
        )
        return Run(claimed, context, inside=contextvars.copy_context() if self.hooks.wanted else None)

    async def execute(self, run: Run) -> Outcome | None:
        """Run one try to its outcome; None when its lease is lost, and with it the right to settle."""
        enter_context(run.context)
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
            taken = await self._take_input(run, payload)
            arguments = await self._validate(run, payload, definition, taken)
            return await self._run(run, payload, definition, arguments)
        except _Refused as refusal:
            return refusal.outcome
        except asyncio.CancelledError as error:
            return self.outcomes.stopped(run, error)
        except BaseException as error:  # a fault of our own must not take the worker's other jobs with it
            logger.exception("engine fault", job_id=run.claimed.id)
            return self.outcomes.failed(run, error)

    def _read(self, run: Run) -> wire.Payload:
        claimed = run.claimed
        try:
            if not claimed.payload:
                raise MalformedPayload("the payload is gone from Redis: it was deleted, or arq's expiry took it")
            payload = wire.loads(claimed.payload, wire.Payload)
        except MalformedPayload as error:
            raise _Refused(self.outcomes.failed(run, error)) from error
        run.payload = payload
        context = run.context
        context.job = payload.job
        context.workflow_id = payload.options.workflow
        context.enqueued_ms = payload.enqueued_ms
        context.try_number = claimed.tries + max(0, (payload.first_try or 1) - 1)
        return payload

    def _admit(self, run: Run, payload: wire.Payload) -> None:
        """Refuse what was cancelled, has expired, or ended its workers, the last one while nothing ran beside it."""
        claimed, expires = run.claimed, payload.options.expires_in_ms
        if claimed.aborted:
            logger.info("cancelled before its start")
            cancelled = failure("CancelledError", "cancelled before it started")
            raise _Refused(self.outcomes.end(run, State.CANCELLED, cancelled))
        if expires is not None and claimed.claimed_ms > payload.enqueued_ms + expires:
            again = " again" if claimed.tries > 1 else ""
            raise _Refused(self.outcomes.expired(run, f"not started{again} within {expires / 1000} s of its enqueue"))
        if claimed.was_alone and claimed.leases_lost >= self._config.leases_lost_limit:
            logger.error("poisoned", leases_lost=claimed.leases_lost)
            times = f"lost {claimed.leases_lost} times in a row while it ran"
            message = f"its worker was {times}, the last time while nothing else did"
            raise _Refused(self.outcomes.end(run, State.FAILED, failure("PoisonedJob", message)))

    def _resolve(self, run: Run, payload: wire.Payload) -> JobDefinition[..., Any]:
        try:
            return self._registry.get(payload.job)
        except UnknownJob as error:
            raise _Refused(
                self._leave_to_others(run, payload, error, "unknown job put back for a worker that knows it")
            ) from error

    def _leave_to_others(self, run: Run, payload: wire.Payload, error: EmbarqError, line: str) -> Outcome:
        """Put back what another worker may understand, with growing pauses; failed once it has waited too long."""
        due = max(payload.enqueued_ms, payload.due_ms or 0)
        waited = (run.claimed.claimed_ms - due) / 1000
        if waited >= self._config.unknown_job_deadline:
            return self.outcomes.failed(run, error)
        logger.warning(line, waited=waited, reason=str(error))
        shortest, longest = UNKNOWN_JOB_PAUSE
        pause = min(longest, max(shortest, waited / 2))
        return PutBack(int(pause * 1000), released=True)

    async def _take_input(self, run: Run, payload: wire.Payload) -> dict[str, Any]:
        """What an earlier step of its workflow hands to the job, by the name of the argument that it becomes."""
        options, graphs = payload.options, self._graphs
        if options.workflow is None or not options.input_name:
            return {}
        try:
            if options.input_node is None:
                value = await graphs.cause(options.workflow, options.node or 0)
            else:
                value = await graphs.value(options.workflow, options.input_node)
        except BrokerUnavailable as error:
            logger.warning("put back: its input cannot be read now", reason=str(error))
            raise _Refused(PutBack(INPUT_PAUSE_MS, released=True)) from error
        except WorkflowDamaged as error:
            raise _Refused(self.outcomes.failed(run, error)) from error
        if value is None:
            raise _Refused(self.outcomes.failed(run, WorkflowNotFound(options.workflow)))
        try:
            return {options.input_name: wire.loads(value, object)}
        except MalformedPayload as error:
            raise _Refused(self.outcomes.failed(run, WorkflowDamaged(options.workflow, error))) from error

    async def _validate(
        self, run: Run, payload: wire.Payload, definition: JobDefinition[..., Any], taken: Mapping[str, Any]
    ) -> dict[str, Any]:
        try:
            named = definition.schema.bind(tuple(payload.args), {**payload.kwargs, **taken})
            return definition.schema.validate(named)
        except InvalidArguments as error:
            if await self._elsewhere.may_fit(payload.job, definition, run.context.queue):
                line = "arguments do not fit here: put back for a worker of another version"
                raise _Refused(self._leave_to_others(run, payload, error, line)) from error
            raise _Refused(self.outcomes.failed(run, error)) from error

    async def _run(
        self, run: Run, payload: wire.Payload, definition: JobDefinition[..., Any], arguments: dict[str, Any]
    ) -> Outcome | None:
        try:
            async with self._room(definition):
                waited = (run.claimed.claimed_ms - payload.enqueued_ms) / 1000
                lines.info("started", run.context.log_fields() | {"waited": waited})
                await self.hooks.started(run)
                run.limit(*self._limits(payload, definition))
                result = await self._call(run, definition, arguments)
        except BaseException as error:  # whatever it is, the job raised it, or was cancelled
            outcome = self.outcomes.after(run, error)
        else:
            run.result = result if run.has_hooks else None
            outcome = self.outcomes.returned(run, result)
        await self.hooks.ended(run, outcome)
        return None if run.stop is Stop.LEASE_LOST else outcome

    def _room(self, definition: JobDefinition[..., Any]) -> AbstractAsyncContextManager[None]:
        """A job for a process waits until one is free; its clocks start then."""
        return self._processes.slots if definition.in_process else nullcontext()

    async def close(self) -> None:
        """End hooks that are under way, and the processes of jobs."""
        await self.hooks.close()
        await self._processes.close()

    async def _call(self, run: Run, definition: JobDefinition[..., Any], arguments: dict[str, Any]) -> object:
        """A coroutine runs in this loop, a plain function in a thread or process with the same context variables."""
        if definition.is_async:
            job = Interruptible(self._coroutine(run, definition, arguments), lambda: run.stop is not None)
            run.interrupt = lambda: job.interrupt(SoftTimeLimitExceeded(run.soft_limit))
            run.stack = job.stack
            return await job
        if definition.in_process:
            return await self._in_process(run, definition, arguments)
        return await self._in_thread(run, definition, arguments)

    async def _in_process(self, run: Run, definition: JobDefinition[..., Any], arguments: dict[str, Any]) -> object:
        return await self._processes.run(definition.function, arguments, run)

    async def _in_thread(self, run: Run, definition: JobDefinition[..., Any], arguments: dict[str, Any]) -> object:
        async with self._registry.given(definition.schema.injected, run.context) as given:
            every = {**arguments, **given}
            function = definition.bound(run.context, every)
            thread = JobThread(f"job {run.claimed.id}", function, run.lift_limits)
            run.interrupt = lambda: thread.interrupt(SoftTimeLimitExceeded)
            run.stack = thread.stack
            return await thread.run()

    def _coroutine(
        self, run: Run, definition: JobDefinition[..., Any], arguments: dict[str, Any]
    ) -> Coroutine[Any, Any, object]:
        if definition.schema.injected:
            return self._with_resources(run, definition, arguments)
        return cast(Coroutine[Any, Any, object], definition.invoke(run.context, (), arguments))

    async def _with_resources(self, run: Run, definition: JobDefinition[..., Any], arguments: dict[str, Any]) -> object:
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
