"""Every exception of the engine, under one base."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LONGEST_DELAY = 10 * 366 * 86400.0
LOWEST_REDIS = "7.0"


class _Pickled:
    """Comes out of `pickle` and `copy` as it went in. Exceptions do not by themselves: they call their constructor with
    their message."""

    def __reduce__(self) -> tuple[Any, ...]:
        parts: Any = super().__reduce__()
        kind, args, *state = parts
        return _remade, (kind, args), *state


def _remade(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    error = kind.__new__(kind, *args)
    error.args = error.args or args  # a subclass of `OSError` leaves them to its constructor
    return error


class EmbarqError(_Pickled, Exception):
    """Base of all errors that Embarq raises itself."""


class DefinitionError(EmbarqError):
    """A job is declared wrongly: found at import or discovery, never at run time."""


class UnknownJob(EmbarqError):
    """No registered job has this name. `hint`: what may have been meant."""

    def __init__(self, name: str, hint: str = "") -> None:
        super().__init__(f"no job is registered as {name!r}{hint}")
        self.name = name


@dataclass(frozen=True, slots=True)
class ArgumentProblem:
    """One thing wrong with a job's arguments or options.

    `path` leads to the value (`("numbers", 3)`), `message` says what is wrong with it.
    """

    path: tuple[str | int, ...]
    message: str

    @property
    def pointer(self) -> str:
        """The path as a JSON pointer (RFC 6901)."""
        return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in self.path)


class InvalidArguments(EmbarqError):
    """Arguments do not fit the job's signature."""

    def __init__(self, job: str, problems: Sequence[ArgumentProblem]) -> None:
        text = "; ".join(f"{problem.pointer or '/'}: {problem.message}" for problem in problems)
        super().__init__(f"arguments of {job!r} are not valid: {text}")
        self.problems = tuple(problems)


class InvalidOptions(InvalidArguments):
    """Options of a call are unknown or out of range."""


class InvalidWorkflow(EmbarqError):
    """A workflow has no steps, too many, or options that are wrong."""

    def __init__(self, problems: Sequence[ArgumentProblem]) -> None:
        text = "; ".join(f"{problem.pointer or '/'}: {problem.message}" for problem in problems)
        super().__init__(f"the workflow is not valid: {text}")
        self.problems = tuple(problems)


class WorkflowNotFound(EmbarqError):
    """Redis has no workflow with this id (any more)."""

    def __init__(self, workflow_id: str) -> None:
        super().__init__(f"no workflow has the id {workflow_id!r}")
        self.workflow_id = workflow_id


class WorkflowDamaged(EmbarqError):
    """What Redis holds under a workflow's keys is not what was written there."""

    def __init__(self, workflow_id: str, reason: object) -> None:
        super().__init__(f"what Redis holds of workflow {workflow_id!r} was damaged: {reason}")


def in_words(state: str) -> str:
    """A final state as the verb of a sentence: `failed`, `was cancelled`."""
    return "was cancelled" if state == "cancelled" else state


class WorkflowEnded(EmbarqError):
    """The workflow is not in a state for this: it has ended, or it has not."""

    def __init__(self, workflow_id: str, state: str) -> None:
        told = "is still running" if state == "running" else f"has ended already: it {in_words(state)}"
        super().__init__(f"workflow {workflow_id} {told}")


class WorkflowFailed(EmbarqError):
    """The awaited workflow ended without a result; the message carries its error."""


class InvalidSchedule(EmbarqError):
    """A schedule's expression, time zone or fields are wrong."""

    def __init__(self, problems: Sequence[ArgumentProblem]) -> None:
        text = "; ".join(f"{problem.pointer or '/'}: {problem.message}" for problem in problems)
        super().__init__(f"the schedule is not valid: {text}")
        self.problems = tuple(problems)


class ScheduleNotFound(EmbarqError):
    """No schedule has this name. `hint`: what may have been meant."""

    def __init__(self, name: str, hint: str = "") -> None:
        super().__init__(f"no schedule is named {name!r}{hint}")


class ScheduleExists(EmbarqError):
    """Another schedule has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"another schedule is named {name!r} already: choose another name, or delete that one first")


class JobNotFound(EmbarqError):
    """Redis has neither the job nor its result (any more)."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job has the id {job_id!r}")
        self.job_id = job_id


class JobFailed(EmbarqError):
    """The awaited job ended without a result; the message carries its error.

    `__cause__` is an exception of the class that the job raised, where this process has loaded that class.
    """


class BrokerUnavailable(EmbarqError):
    """Redis cannot be reached or does not answer; what was asked may be tried again."""


class ServerTooOld(EmbarqError):
    """Redis cannot run our scripts."""

    def __init__(self, version: str) -> None:
        super().__init__(f"Redis {version} is too old: Embarq needs Redis {LOWEST_REDIS} or newer, or Valkey")


class CallRefused(EmbarqError):
    """The scripts in Redis refused a call: its id, queue, times or key are out of bounds. Nothing was written."""


class ResourceUnavailable(EmbarqError):
    """Base of errors that say that something jobs depend on is unavailable for a while: the database, the mail server.

    A try that ends with it is repeated without counting, for as long as `EMBARQ_OUTAGE_PATIENCE` says; then it counts.
    """


class ClientClosed(EmbarqError):
    """A client without a loop of its caller was closed, and with it whatever was under way."""


class NotInline(EmbarqError):
    """What was asked needs Redis, and inline mode has none."""


class Overloaded(BrokerUnavailable):
    """This process has as many requests waiting for Redis as it may; what was asked may be tried again."""


class LeaseLost(EmbarqError):
    """This try may not act for its job any more: another worker may have started it again."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"the lease of job {job_id} was lost")


class MalformedPayload(EmbarqError):
    """What Redis holds for a job is not the JSON object that `docs/wire.md` describes."""


class NotSerializable(EmbarqError):
    """A value cannot be written as JSON."""


class TooLarge(NotSerializable):
    """A value takes more bytes as JSON than may be kept."""


class ResultNotSerializable(NotSerializable):
    """What a job returned cannot be written as JSON."""


class ResultTooLarge(ResultNotSerializable, TooLarge):
    """What a job returned takes more bytes as JSON than may be kept."""


class ProcessDied(EmbarqError):
    """The process of a job ended by itself: a crash in C code, `os._exit`, or the system took its memory."""


def type_name(kind: type) -> str:
    """A type's module and name."""
    return f"{kind.__module__}.{kind.__qualname__}"


class ErrorInProcess(EmbarqError):
    """Stands for an exception of a job in a process of its own: its types are names, its traceback is text.

    `traits`: what is written of it beside that; see `worker.core.raised`.
    """

    def __init__(
        self, kind: str, message: str, trace: str, type_names: Sequence[str], traits: Mapping[str, Any]
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.trace = trace
        self.type_names = frozenset(type_names)
        self.traits = traits


class UnknownResource(EmbarqError):
    """A job asks for a resource that nothing provides."""


class NoClient(EmbarqError):
    """A job asks its context for the worker's client where there is none."""


class Retry(EmbarqError):
    """Raised by a job to be run again: `raise Retry(delay=30)`.

    `delay` is in seconds; without one, the job's retry policy says. The try counts towards `max_tries`.
    """

    def __init__(self, delay: float | None = None) -> None:
        if delay is not None and not 0 <= delay <= LONGEST_DELAY:
            raise ValueError(f"delay must be from 0 to {LONGEST_DELAY:.0f} s, not {delay}")
        super().__init__("the job asked for another try")
        self.delay = delay


class Permanent(EmbarqError):
    """Raised by a job, or a base of its own errors: no other try would help."""


class SoftTimeLimitExceeded(_Pickled, asyncio.CancelledError):
    """Raised inside a job at its await point: clean up, and return what there is. The hard limit follows.

    It is a `CancelledError`, so task groups and the like clean up as they do for a cancellation and pass it on, and
    an `except Exception` around some step does not swallow it.
    """

    def __init__(self, limit: float | None = None) -> None:
        super().__init__("the soft time limit has passed" if limit is None else f"not done after {limit} s")


class TimeLimitExceeded(EmbarqError, TimeoutError):
    """A try was stopped at its hard limit."""

    def __init__(self, limit: float) -> None:
        super().__init__(f"not done after its limit of {limit} s")


class JobEnded(EmbarqError):
    """The job has ended already: there is nothing to cancel."""

    def __init__(self, job_id: str, state: str) -> None:
        super().__init__(f"job {job_id} has ended already: it {in_words(state)}")
