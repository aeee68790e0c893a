"""What a try becomes: pure functions from how it went to what is stored."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import structlog

from worker.broker.exchange import Ended, Requeue
from worker.core import wire
from worker.core.config import WorkerConfig
from worker.core.errors import (
    NotSerializable,
    ResourceUnavailable,
    ResultNotSerializable,
    SoftTimeLimitExceeded,
    TimeLimitExceeded,
    TooLarge,
)
from worker.core.job import State
from worker.core.retries import NEVER, RetryPolicy, is_one_of, next_try_in
from worker.core.texts import LONGEST_MESSAGE, head
from worker.definition.definitions import JobDefinition
from worker.execution.attempt import Attempt, Stop
from worker.execution.failures import describe, failure, summary, traits_of
from worker.execution.outages import Outages
from worker.observability.batched_log_handler import BatchedLogger

Outcome = Ended | Requeue
FAULT_TTL_MS = 3_600_000  # of a job whose end could not be stored as it is
logger = structlog.stdlib.get_logger("embarq.job")
lines = BatchedLogger("embarq.job")


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Turns the ends of tries into outcomes, by the rules of the worker and of each job."""

    jobs: Mapping[str, JobDefinition[..., Any]]
    config: WorkerConfig
    worker: str
    outages: Outages

    def after(self, run: Attempt, error: BaseException) -> Outcome | None:
        """The function ended with an exception, its own or one that the engine threw in."""
        if isinstance(error, ResultNotSerializable):
            return self.result_dropped(run, error)
        if isinstance(error, SoftTimeLimitExceeded):
            return self.raised(run, error)
        if isinstance(error, asyncio.CancelledError) or run.must_stop:
            return self.stopped(run, error)
        return self.raised(run, error)

    def returned(self, run: Attempt, result: object) -> Outcome | None:
        """The function returned, which may be too late to count."""
        if run.stop is not None and run.must_stop:
            return self.stopped(run, None)
        try:
            packed = wire.JSON.encode(result)
        except wire.NOT_JSON as error:
            return self.result_dropped(run, wire.not_json(result, error))
        if len(packed) > self.config.max_result:
            return self.result_dropped(run, wire.too_large(packed, self.config.max_result))
        outcome = self.end(run, State.SUCCEEDED, msgspec.Raw(packed))
        lines.info("succeeded", {**run.log_fields, "duration": run.duration})
        return outcome

    def result_dropped(self, run: Attempt, error: NotSerializable) -> Outcome:
        """The function returned something with no JSON form, or too much of it.

        The job did its work: calling it failed would be wrong, and would make others repeat it.
        """
        if isinstance(error, TooLarge):
            kind, line = "ResultTooLarge", "succeeded, but its result is too large and was dropped"
        else:
            kind, line = "NotSerializable", "succeeded, but its result is not JSON and was dropped"
        logger.error(line, reason=str(error))
        return self.end(run, State.SUCCEEDED, None, failure(kind, str(error)))

    def raised(self, run: Attempt, error: BaseException) -> Outcome:
        """The function raised: another try, or failed for good. For want of a resource it is made again in any case, at
        first without counting."""
        run.error = error
        away = is_one_of(error, (ResourceUnavailable,))
        pause = self.outages.pause(run.claimed.id) if away else None
        if pause is not None:
            logger.warning("requeued: a resource is unavailable", delay=round(pause, 3), error=summary(error))
            return Requeue(int(pause * 1000), released=True)
        if not away:
            self.outages.forget(run.claimed.id)
        return self._tried(run, error, also=(ResourceUnavailable,) if away else ())

    def _tried(self, run: Attempt, error: BaseException, also: tuple[type[BaseException], ...]) -> Outcome:
        """The try counts. `also`: errors that are tried again beside those of the job's policy."""
        payload, number = run.payload or _unread(run), run.context.try_number
        definition = self.jobs.get(payload.job)
        declared: Mapping[str, Any] = {} if definition is None else definition.declared
        most = payload.options.max_tries or declared.get("max_tries", self.config.max_tries)
        policy: RetryPolicy = declared.get("retry", NEVER)
        delay = next_try_in(error, replace(policy, on=(*policy.on, *also)), number, most)
        if delay is None:
            return self.failed(run, error)
        expires = payload.options.expires_in_ms
        if expires is not None and _finished_ms(run) + delay * 1000 > payload.enqueued_ms + expires:
            late = f"its next try would start later than {expires / 1000} s after its enqueue; the last one ended with"
            return self.expired(run, f"{late} {summary(error)}", describe(error)["traceback"])
        logger.info("retrying", delay=round(delay, 3), duration=run.duration, error=summary(error))
        record = wire.AttemptRecord(
            number=number,
            worker=self.worker,
            started_ms=run.claimed.claimed_ms,
            finished_ms=_finished_ms(run),
            outcome="retry",
            error=describe(error) | {"traceback": None},
        )
        return Requeue(int(delay * 1000), released=False, record=wire.dumps(record))

    def failed(self, run: Attempt, error: BaseException) -> Outcome:
        """The job has failed for good."""
        run.error = error
        logger.error("failed", error=summary(error), duration=run.duration, exc_info=error)
        return self.end(run, State.FAILED, describe(error), more=traits_of(error))

    def expired(self, run: Attempt, reason: str, trace: str | None = None) -> Outcome:
        """No try may start any more."""
        logger.warning("expired", reason=reason)
        return self.end(run, State.EXPIRED, failure("Expired", reason, trace))

    def stopped(self, run: Attempt, error: BaseException | None) -> Outcome | None:
        """The job was cancelled. What follows depends on who did it; None when the lease is lost."""
        if run.stop is Stop.LEASE_LOST:
            logger.warning("lease lost, the job was stopped here", job_id=run.claimed.id)
            return None
        if run.stop is Stop.HANDED_BACK:
            logger.info("handed back", job_id=run.claimed.id, duration=run.duration)
            return Requeue(0, released=True)
        if run.stop is Stop.CANCELLED:
            logger.info("cancelled", duration=run.duration)
            return self.end(run, State.CANCELLED, failure("CancelledError", "cancelled while it ran"))
        if run.stop is Stop.TIME_LIMIT:
            late = TimeLimitExceeded(run.hard_limit or 0)
            return self.raised(run, late.with_traceback(error.__traceback__ if error else None))
        return self.failed(run, error or asyncio.CancelledError("the job cancelled itself"))

    def end(
        self,
        run: Attempt,
        state: State,
        result: object,
        notice: dict[str, Any] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> Ended:
        """The job's final record. `more`: of an exception, for those who look the job up; handlers of its failure in a
        workflow are given the rest. Where no such record can be made, the job has failed, for that reason: left as it
        is, it would run again and again.
        """
        if self.outages.seen:
            self.outages.forget(run.claimed.id)
        found = {**result, **more} if more and isinstance(result, dict) else result
        try:
            record = self._record(run, state, found, notice)
            return _ended(state, record, self._result_ttl_ms(record), result)
        except Exception as error:
            logger.exception("engine fault", job_id=run.claimed.id)
            told = failure(type(error).__name__, f"its end could not be stored: {head(error, LONGEST_MESSAGE)}")
            return _ended(State.FAILED, _bare(self._record(run, State.FAILED, told, None)), FAULT_TTL_MS, told)

    def _record(self, run: Attempt, state: State, result: object, notice: dict[str, Any] | None) -> wire.Result:
        claimed, payload, progress = run.claimed, run.payload or _unread(run), run.context.last_progress
        return wire.Result(
            tries=run.context.try_number,
            job=payload.job,
            args=payload.args,
            kwargs=payload.kwargs,
            enqueued_ms=payload.enqueued_ms,
            success=state is State.SUCCEEDED,
            result=result,
            started_ms=claimed.claimed_ms,
            finished_ms=_finished_ms(run),
            queue=claimed.queue_key,
            id=claimed.id,
            state=state.value,
            lease=claimed.token,
            request_id=payload.request_id,
            options=payload.options,
            progress=None if progress is None else wire.progress_record(progress),
            worker=self.worker,
            notice=notice,
        )

    def _result_ttl_ms(self, record: wire.Result) -> int | None:
        asked = record.options.result_ttl_ms
        if asked is not None:
            return None if asked == wire.FOREVER_MS else asked
        definition, ttl = self.jobs.get(record.job), self.config.result_ttl
        if definition is not None:  # the failure of an unknown one is kept like any other result
            ttl = definition.declared.get("result_ttl", ttl)
        return None if ttl is None else int(ttl * 1000)


def _ended(state: State, record: wire.Result, ttl_ms: int | None, value: object) -> Ended:
    """`value`: what a workflow goes on with."""
    packed = b"" if record.options.workflow is None else wire.dumps(value)
    trace = wire.dumps(_trace(record)) if ttl_ms == 0 else b""
    try:
        return Ended(state, wire.JSON.encode(record), ttl_ms, packed, trace)
    except wire.NOT_JSON as error:
        raise wire.not_json(record, error) from error


def _bare(record: wire.Result) -> wire.Result:
    """Without what the job or its caller gave."""
    return msgspec.structs.replace(record, args=[], kwargs={}, progress=None)


def _trace(record: wire.Result) -> wire.Result:
    """What stays for a minute of a job whose result is not kept: how it ended."""
    return msgspec.structs.replace(_bare(record), result=None if record.success else record.result)


def _unread(run: Attempt) -> wire.Payload:
    """A stand-in for a payload that cannot be read."""
    return wire.Payload(job="?", enqueued_ms=run.claimed.claimed_ms)


def _finished_ms(run: Attempt) -> int:
    """Redis' clock at the claim, and the time since by ours."""
    return run.claimed.claimed_ms + round((time.monotonic() - run.started) * 1000)
