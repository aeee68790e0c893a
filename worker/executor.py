"""One try of one job, as named steps: read, admit, resolve, validate, run, settle."""

import asyncio
import contextlib
import contextvars
import threading
import time
import traceback
from collections.abc import Awaitable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, cast

import structlog

from worker import wire
from worker.broker import keys
from worker.broker.broker import Claimed, Ended, PutBack
from worker.config import WorkerConfig
from worker.context import Context, enter_context
from worker.definitions import JobDefinition, Registry
from worker.errors import InvalidArguments, MalformedPayload, NotSerializable, Retry, UnknownJob
from worker.job import State

Outcome = Ended | PutBack
logger = structlog.stdlib.get_logger("embarq.job")

LONGEST_TRACEBACK = 20_000
UNKNOWN_JOB_PAUSE = (1.0, 30.0)


class Stop(Enum):
    """Why the engine cancels a running job."""

    ABORTED = "aborted"
    LEASE_LOST = "lease lost"
    HANDED_BACK = "handed back"


@dataclass(slots=True, eq=False)
class Run:
    """A try that is under way. `stop` says why it is being cancelled, if it is."""

    claimed: Claimed
    context: Context
    task: "asyncio.Task[None] | None" = None
    stop: Stop | None = None
    started: float = field(default_factory=time.monotonic)

    def cancel(self, reason: Stop) -> None:
        """Cancel the job for the first reason given."""
        if self.stop is None:
            self.stop = reason
            if self.task is not None:
                self.task.cancel()


class _Refused(Exception):  # it is a step's answer, not an error
    """A step ends the try before the job's function runs."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome


class Executor:
    """Runs claimed jobs. `execute` never raises: whatever happens becomes an outcome."""

    def __init__(self, registry: Registry, config: WorkerConfig, worker: str) -> None:
        self._registry = registry
        self._config = config
        self._worker = worker
        self._threads = ThreadPoolExecutor(min(config.concurrency, 64), thread_name_prefix="job")
        self.resources: Mapping[type, object] = {}
        self.stopping = threading.Event()

    def close(self) -> None:
        """Let threads end on their own; none is waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def prepare(self, claimed: Claimed) -> Run:
        """A run for a claimed job, before its task exists."""
        queue, _ = keys.parse_queue_key(claimed.queue_key)
        return Run(
            claimed,
            Context(
                job_id=claimed.id,
                job="?",
                try_number=claimed.tries,
                queue=queue,
                stopping=self.stopping,
                resources=dict(self.resources),
            ),
        )

    async def execute(self, run: Run) -> Outcome | None:
        """Run one try to its outcome; None when its lease is lost, and with it the right to settle."""
        try:
            payload = self._read(run)
            self._admit(run, payload)
            definition = self._resolve(run, payload)
            arguments = self._validate(run, payload, definition)
            return await self._run(run, payload, definition, arguments)
        except _Refused as refusal:
            return refusal.outcome
        except asyncio.CancelledError:
            return self._stopped(run, None)
        except Exception as error:  # a fault of our own must not take the worker's other jobs with it
            logger.exception("engine fault", job_id=run.claimed.id)
            return self._failed(run, _nobody(run.claimed), error)

    def _read(self, run: Run) -> wire.Payload:
        claimed = run.claimed
        try:
            if not claimed.payload:
                raise MalformedPayload("the payload is gone from Redis: it was deleted, or arq's expiry took it")
            payload = wire.loads(claimed.payload, wire.Payload)
        except MalformedPayload as error:
            logger.error("payload refused", job_id=claimed.id, reason=str(error))
            raise _Refused(self._failed(run, _nobody(claimed), error)) from error
        run.context.job = payload.job
        run.context.try_number = claimed.tries + max(0, (payload.first_try or 1) - 1)
        return payload

    def _admit(self, run: Run, payload: wire.Payload) -> None:
        """Refuse what was aborted, has expired, or killed its workers."""
        claimed, expires = run.claimed, payload.options.expires_in_ms
        log = logger.bind(job=payload.job, job_id=claimed.id)
        if claimed.aborted:
            log.info("aborted before its start")
            raise _Refused(self._end(run, payload, State.CANCELLED, _error("CancelledError", "aborted")))
        if expires is not None and claimed.tries == 1 and claimed.claimed_ms > payload.enqueued_ms + expires:
            message = f"not started within {expires / 1000} s"
            log.warning("expired", expires_in=expires / 1000)
            raise _Refused(self._end(run, payload, State.EXPIRED, _error("Expired", message)))
        if claimed.leases_lost >= self._config.leases_lost_limit:
            message = f"its worker was lost {claimed.leases_lost} times in a row while it ran"
            log.error("poisoned", leases_lost=claimed.leases_lost)
            raise _Refused(self._end(run, payload, State.FAILED, _error("PoisonedJob", message)))

    def _resolve(self, run: Run, payload: wire.Payload) -> JobDefinition[..., Any]:
        try:
            return self._registry.get(payload.job)
        except UnknownJob as error:
            due = max(payload.enqueued_ms, payload.due_ms or 0)
            waited = (run.claimed.claimed_ms - due) / 1000
            log = logger.bind(job=payload.job, job_id=run.claimed.id, waited=waited)
            if waited >= self._config.unknown_job_deadline:
                log.error("no worker knows this job")
                raise _Refused(self._failed(run, payload, error)) from error
            log.warning("unknown job put back for a worker that knows it")
            shortest, longest = UNKNOWN_JOB_PAUSE
            pause = min(longest, max(shortest, waited / 2))
            raise _Refused(PutBack(int(pause * 1000), released=True)) from error

    def _validate(self, run: Run, payload: wire.Payload, definition: JobDefinition[..., Any]) -> dict[str, Any]:
        try:
            named = definition.schema.bind(tuple(payload.args), payload.kwargs)
            return definition.schema.validate(named)
        except InvalidArguments as error:
            logger.error("arguments refused", job=payload.job, job_id=run.claimed.id, reason=str(error))
            raise _Refused(self._failed(run, payload, error)) from error

    async def _run(
        self, run: Run, payload: wire.Payload, definition: JobDefinition[..., Any], arguments: dict[str, Any]
    ) -> Outcome | None:
        context, claimed = run.context, run.claimed
        structlog.contextvars.bind_contextvars(job=payload.job, job_id=claimed.id, **{"try": context.try_number})
        enter_context(context)
        logger.info("started", waited=round((claimed.claimed_ms - payload.enqueued_ms) / 1000, 3))
        limit = self._timeout(payload, definition)
        try:
            async with asyncio.timeout(limit) as clock:
                result = await self._call(definition, context, arguments)
        except Retry as retry:
            return self._retry(run, payload, definition, retry)
        except TimeoutError as error:
            reason = TimeoutError(f"not done after its limit of {limit} s") if clock.expired() else error
            return self._failed(run, payload, reason.with_traceback(error.__traceback__))
        except asyncio.CancelledError as error:
            return self._stopped(run, payload, error)
        except (Exception, SystemExit, KeyboardInterrupt, GeneratorExit) as error:
            return self._failed(run, payload, error)
        return self._succeeded(run, payload, result)

    async def _call(
        self, definition: JobDefinition[..., Any], context: Context, arguments: dict[str, Any]
    ) -> object:
        """A coroutine runs in this loop, a plain function in a thread that sees the same context variables."""
        if definition.is_async:
            return await cast(Awaitable[object], definition.invoke(context, (), arguments))
        inside = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._threads, lambda: inside.run(definition.invoke, context, (), arguments)
        )

    def _succeeded(self, run: Run, payload: wire.Payload, result: object) -> Outcome:
        logger.info("succeeded", duration=_duration(run))
        try:
            return self._end(run, payload, State.SUCCEEDED, result)
        except NotSerializable as error:
            # The job did its work: calling it failed would be wrong, and would make others repeat it.
            logger.error("result is not JSON and was dropped", reason=str(error))
            return self._end(run, payload, State.SUCCEEDED, None, _error(type(error).__name__, str(error)))

    def _retry(
        self, run: Run, payload: wire.Payload, definition: JobDefinition[..., Any], retry: Retry
    ) -> Outcome:
        most = payload.options.max_tries or definition.declared.get("max_tries", self._config.max_tries)
        if run.context.try_number >= most:
            return self._failed(run, payload, retry)
        logger.info("retrying", delay=retry.delay, duration=_duration(run))
        return PutBack(int(retry.delay * 1000), released=False)

    def _stopped(
        self, run: Run, payload: wire.Payload | None, error: BaseException | None = None
    ) -> Outcome | None:
        """What a cancelled job becomes: that depends on who cancelled it."""
        if run.stop is Stop.LEASE_LOST:
            logger.warning("lease lost, the job was stopped here", job_id=run.claimed.id)
            return None
        if run.stop is Stop.HANDED_BACK or payload is None:
            logger.info("handed back", job_id=run.claimed.id, duration=_duration(run))
            return PutBack(0, released=True)
        if run.stop is Stop.ABORTED:
            logger.info("cancelled", duration=_duration(run))
            return self._end(run, payload, State.CANCELLED, _error("CancelledError", "aborted while it ran"))
        return self._failed(run, payload, error or asyncio.CancelledError("the job cancelled itself"))

    def _failed(self, run: Run, payload: wire.Payload, error: BaseException) -> Outcome:
        trace = "".join(traceback.format_exception(error))[-LONGEST_TRACEBACK:]
        if payload.job != "?":
            logger.error(
                "failed", error=f"{type(error).__name__}: {error}", duration=_duration(run), exc_info=error
            )
        return self._end(run, payload, State.FAILED, _error(type(error).__name__, str(error), trace))

    def _end(
        self,
        run: Run,
        payload: wire.Payload,
        state: State,
        result: object,
        notice: dict[str, Any] | None = None,
    ) -> Ended:
        claimed, progress = run.claimed, run.context.last_progress
        record = wire.Result(
            tries=run.context.try_number,
            job=payload.job,
            args=payload.args,
            kwargs=payload.kwargs,
            enqueued_ms=payload.enqueued_ms,
            success=state is State.SUCCEEDED,
            result=result,
            started_ms=claimed.claimed_ms,
            finished_ms=claimed.claimed_ms + int(_duration(run) * 1000),
            queue=claimed.queue_key,
            id=claimed.id,
            state=state.value,
            lease=claimed.token,
            nonce=payload.nonce,
            options=payload.options,
            progress=wire.ProgressRecord(progress.current, progress.total, progress.message) if progress else None,
            worker=self._worker,
            notice=notice,
        )
        return Ended(state, wire.dumps(record), self._result_ttl_ms(payload))

    def _result_ttl_ms(self, payload: wire.Payload) -> int | None:
        asked = payload.options.result_ttl_ms
        if asked is not None:
            return None if asked == wire.FOREVER_MS else asked
        ttl = self._config.result_ttl
        with contextlib.suppress(UnknownJob):  # whose failure is kept like any other result
            ttl = self._registry.get(payload.job).declared.get("result_ttl", ttl)
        return None if ttl is None else int(ttl * 1000)

    def _timeout(self, payload: wire.Payload, definition: JobDefinition[..., Any]) -> float:
        asked = payload.options.timeout_ms
        return definition.declared.get("timeout", self._config.timeout) if asked is None else asked / 1000


def _duration(run: Run) -> float:
    return round(time.monotonic() - run.started, 3)


def _nobody(claimed: Claimed) -> wire.Payload:
    """Stands for a payload that cannot be read."""
    return wire.Payload(job="?", enqueued_ms=claimed.claimed_ms)


def _error(kind: str, message: str, trace: str | None = None) -> dict[str, Any]:
    """A failure as the wire promises it."""
    return {"type": kind, "message": message, "traceback": trace}
