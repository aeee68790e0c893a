"""Why a try ends before its job's function is called, and what becomes of the job then."""

from dataclasses import dataclass

import structlog

from worker.broker.exchange import Requeue
from worker.core import wire
from worker.core.config import WorkerConfig
from worker.core.errors import BrokerUnavailable, EmbarqError, MalformedPayload, UnknownJob
from worker.core.job import State
from worker.execution.attempt import Attempt
from worker.execution.failures import failure
from worker.execution.outcomes import Outcome, Outcomes

logger = structlog.stdlib.get_logger("embarq.job")

ELSEWHERE_PAUSE = (1.0, 30.0)  # seconds: the first, and the longest
INPUT_PAUSE_MS = 500


class Refused(Exception):  # it is a step's answer, not an error
    """A step ends the try before the job's function runs."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Refusals:
    """Makes what a step raises where it ends the try."""

    outcomes: Outcomes
    config: WorkerConfig

    def unread(self, run: Attempt) -> Refused:
        """The payload cannot be read."""
        data = run.claimed.payload
        try:
            if not data:
                raise MalformedPayload("the payload is gone from Redis: it was deleted, or arq's expiry took it")
            wire.loads(data, wire.Payload)  # it says why
        except MalformedPayload as error:
            return Refused(self.outcomes.failed(run, error))
        raise AssertionError(f"two decoders of payloads differ on {data[:100]!r}")

    def cancelled(self, run: Attempt) -> Refused:
        """The job was cancelled while it waited."""
        logger.info("cancelled before its start")
        told = failure("CancelledError", "cancelled before it started")
        return Refused(self.outcomes.end(run, State.CANCELLED, told))

    def expired(self, run: Attempt, expires_in_ms: int) -> Refused:
        """The job has waited too long."""
        again = " again" if run.claimed.tries > 1 else ""
        return Refused(self.outcomes.expired(run, f"not started{again} within {expires_in_ms / 1000} s of its enqueue"))

    def poisoned(self, run: Attempt) -> Refused:
        """The job has ended its workers."""
        lost = run.claimed.leases_lost
        logger.error("poisoned", leases_lost=lost)
        message = f"its worker was lost {lost} times in a row while it ran, the last time while nothing else did"
        return Refused(self.outcomes.end(run, State.FAILED, failure("PoisonedJob", message)))

    def unknown(self, run: Attempt, payload: wire.Payload) -> Refused:
        """No job of this name is declared here."""
        line = "unknown job requeued for a worker that knows it"
        return Refused(self._left_to_others(run, payload, UnknownJob(payload.job), line))

    def unfit(self, run: Attempt, payload: wire.Payload, error: EmbarqError, *, may_fit_elsewhere: bool) -> Refused:
        """The arguments are not those of the job as it is declared here."""
        if not may_fit_elsewhere:
            return Refused(self.outcomes.failed(run, error))
        line = "arguments do not fit here: requeued for a worker of another version"
        return Refused(self._left_to_others(run, payload, error, line))

    def _left_to_others(self, run: Attempt, payload: wire.Payload, error: EmbarqError, line: str) -> Outcome:
        """Requeue what another worker may understand, with growing pauses; failed once it has waited too long."""
        due = max(payload.enqueued_ms, payload.due_ms or 0)
        waited = (run.claimed.claimed_ms - due) / 1000
        if waited >= self.config.unknown_job_deadline:
            return self.outcomes.failed(run, error)
        logger.warning(line, waited=waited, reason=str(error))
        shortest, longest = ELSEWHERE_PAUSE
        pause = min(longest, max(shortest, waited / 2))
        return Requeue(int(pause * 1000), released=True)

    def input_unavailable(self, error: BrokerUnavailable) -> Refused:
        """What an earlier step hands over cannot be read now."""
        logger.warning("requeued: its input cannot be read now", reason=str(error))
        return Refused(Requeue(INPUT_PAUSE_MS, released=True))

    def input_lost(self, run: Attempt, error: EmbarqError) -> Refused:
        """What an earlier step hands over is not there, or damaged."""
        return Refused(self.outcomes.failed(run, error))
