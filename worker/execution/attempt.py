"""A try that is under way in this worker, and how an exception of choice is thrown into it at its `await`."""

import asyncio
import contextlib
import contextvars
import time
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, TypeVar, cast

from worker.broker.exchange import Ack, Claimed, Ended, Requeue
from worker.core import wire
from worker.core.context import Context
from worker.core.errors import MalformedPayload
from worker.core.limits import held_keys


class Stop(Enum):
    """Why the engine stops a running job."""

    CANCELLED = "cancelled"
    TIME_LIMIT = "time limit"
    LEASE_LOST = "lease lost"
    HANDED_BACK = "handed back"


R = TypeVar("R")


@dataclass(slots=True, eq=False)
class Interruptible(Generic[R]):
    """Awaits a coroutine. `interrupt` makes the await that it is in raise the given exception.

    `overruled`: whether the task has been cancelled for good meanwhile. Two cancellations of one turn of the loop come
    as one, which is not exchanged then.

    A task can only be cancelled from outside. So the task is cancelled, which also stops what it waits for, and the
    cancellation is exchanged for the exception on its way into the coroutine.
    """

    coroutine: Coroutine[Any, Any, R]
    overruled: Callable[[], bool]
    _pending: BaseException | None = field(default=None, init=False)
    _task: "asyncio.Task[Any] | None" = field(default=None, init=False)

    def interrupt(self, error: BaseException) -> None:
        """Raise `error` in the coroutine, if it is under way."""
        if self._task is not None and not self._task.done():
            self._pending = error
            self._task.cancel()

    def stack(self) -> str:
        """Where the coroutine is, a frame a line, outermost first."""
        lines, awaited = [], cast(Any, self.coroutine)
        while getattr(awaited, "cr_frame", None) is not None:
            frame = awaited.cr_frame
            lines.append(f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}")
            awaited = awaited.cr_await
        return "\n".join(lines)

    def __await__(self) -> Generator[Any, Any, R]:
        self._task = asyncio.current_task()
        coroutine, error = self.coroutine, None
        while True:
            try:
                waits_for = coroutine.send(None) if error is None else coroutine.throw(error)
            except StopIteration as returned:
                result: R = returned.value
                return result
            error = None
            try:
                yield waits_for
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as thrown:
                error = self._exchange(thrown)

    def _exchange(self, thrown: BaseException) -> BaseException:
        if self._pending is None or not isinstance(thrown, asyncio.CancelledError):
            return thrown
        pending, self._pending = self._pending, None
        if self._task is not None:
            self._task.uncancel()
        return thrown if self.overruled() else pending


@dataclass(slots=True, eq=False)
class Attempt:
    """One try of a claimed job: its task, its limits, and why it is being stopped, if it is.

    Limits and other times are of the monotonic clock; None means that there is no such limit (any more).
    `has_begun`: its task has taken its first step; one that is cancelled before would never settle anything.
    `interrupt` raises `SoftTimeLimitExceeded` inside the job, `stack` tells where the job is, `coroutine` is the call
    of an `async def`. `log_fields`: what its log lines carry, once its payload is read.
    For its hooks, where there are some: `inside`, the context variables that they share with the job; `result` and
    `error`, what the function returned, and what ended the try; `has_hooks`, once the function was about to be called.
    """

    claimed: Claimed
    context: Context
    payload: wire.Payload | None = None
    task: "asyncio.Task[object] | None" = None
    has_begun: bool = False
    started: float = field(default_factory=time.monotonic)
    leased_until: float = 0.0
    soft_limit: float | None = None
    hard_limit: float | None = None
    soft_at: float | None = None
    hard_at: float | None = None
    interrupt: Callable[[], None] | None = None
    stack: Callable[[], str] | None = None
    coroutine: "Coroutine[Any, Any, object] | None" = None
    log_fields: Mapping[str, object] = field(default_factory=dict)
    stop: Stop | None = None
    stopped_at: float | None = None
    inside: contextvars.Context | None = None
    has_hooks: bool = False
    result: object = None
    error: BaseException | None = None

    @property
    def id(self) -> str:
        """The job's id."""
        return self.claimed.id

    @property
    def held_limits(self) -> Sequence[str]:
        """The keys of the limits that it holds."""
        return held_keys(self.payload.options.limits) if self.payload else ()

    def settle(self, outcome: Ended | Requeue) -> Ack:
        """What tells Redis how the try ended."""
        if self.payload is None:  # its execution has not begun
            with contextlib.suppress(MalformedPayload):
                self.payload = wire.loads(self.claimed.payload, wire.Payload)
        payload = self.payload
        if payload is None:
            return Ack(self.claimed, outcome)
        options = payload.options
        held = held_keys(options.limits) if options.limits else ()
        durable = payload.request_id if options.durable else None
        return Ack(self.claimed, outcome, held, options.workflow, options.node, durable or "")

    def limit(self, soft: float | None, hard: float) -> None:
        """Start the clocks of the job's function, in seconds from now."""
        now = time.monotonic()
        self.soft_limit, self.hard_limit = soft, hard
        self.soft_at = None if soft is None else now + soft
        self.hard_at = now + hard

    def cancel(self, reason: Stop) -> None:
        """Cancel the job. The first reason counts, but a lost lease overrules all: nothing may be settled then."""
        if self.stop is None or reason is Stop.LEASE_LOST:
            self.stop = reason
        if self.stopped_at is None:
            self.stopped_at = time.monotonic()
            if self.task is not None and self.has_begun:
                self.task.cancel()

    def pause_limits(self, seconds: float) -> None:
        """The job's function cannot begin yet: its clocks start later, with `limit`, or so many seconds late."""
        self.soft_at = None
        self.hard_at = None if self.hard_at is None else self.hard_at + seconds

    def lift_limits(self) -> None:
        """The job's function has returned: no limit passes any more, however late the worker hears of the end."""
        self.soft_at = self.hard_at = None

    def keep_limits(self, now: float) -> None:
        """Interrupt or cancel the job where a limit has passed; where both have, the hard one counts."""
        soft_at, hard_at = self.soft_at, self.hard_at
        if hard_at is not None and now >= hard_at:
            self.hard_at = None
            self.cancel(Stop.TIME_LIMIT)
        if soft_at is not None and now >= soft_at and self.interrupt is not None:
            self.soft_at = None
            if self.stop is None:
                self.interrupt()

    @property
    def must_stop(self) -> bool:
        """Whether the job is stopped for good, so that what it returns does not count any more."""
        return self.stop is not None and self.stop is not Stop.HANDED_BACK

    @property
    def duration(self) -> float:
        """Seconds since the claim."""
        return round(time.monotonic() - self.started, 3)
