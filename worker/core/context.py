"""What a running job can reach: its id, its try, its progress, its logger, the worker's resources."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeVar, cast

import structlog

from worker.core import wire
from worker.core.errors import NoClient, NotSerializable, UnknownResource
from worker.core.job import Progress, from_ms, now_ms
from worker.core.queue_client import QueueClient

T = TypeVar("T")


class Stopping:
    """Whether the worker is stopping. May be read from any thread, and awaited in the worker's loop."""

    def __init__(self) -> None:
        self._flag = threading.Event()
        self._waiters: set[asyncio.Future[None]] = set()

    def is_set(self) -> bool:
        """Whether the worker stops: what still runs has the grace period."""
        return self._flag.is_set()

    def set(self) -> None:
        """Say so; called in the worker's loop."""
        self._flag.set()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> None:
        """Return when the worker stops."""
        if self.is_set():
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)


class Steps(Protocol):
    """Where steps that ran are recorded."""

    async def once(self, key: str, step: Callable[[], Awaitable[T]], keep: float) -> T:
        """See `Context.once`."""
        ...


@dataclass(slots=True, kw_only=True, eq=False)
class Context:
    """One try of one job. A job asks for it by annotating its first parameter with `Context`.

    `try_number` counts starts from 1. `stopping` is set when the worker begins to stop: a long job may check it, or
    await it, and end early.
    """

    job_id: str
    job: str
    try_number: int = 1
    queue: str = "default"
    workflow_id: str | None = None
    stopping: Stopping = field(default_factory=Stopping)
    last_progress: Progress | None = None
    resources: Mapping[type, object] = field(default_factory=dict)
    steps: Steps | None = None
    enqueued_ms: int = field(default_factory=now_ms)
    workers_client: QueueClient | None = None
    meta_refused: bool = False
    numbers_refused: bool = False

    @property
    def enqueue_time(self) -> datetime:
        """When the job was queued, by Redis' clock, as an aware time; for a job that is called directly, when that
        was."""
        return from_ms(self.enqueued_ms)

    @property
    def client(self) -> QueueClient:
        """The worker's client: to queue further jobs, to look jobs up, to cancel them; its `arq` queues by name, as arq
        does. For coroutines; it belongs to the worker's loop, so a plain function, which runs in a thread, cannot await
        it.

        Raises:
            NoClient: the job runs in a process of its own, or was called directly, without a worker.
        """
        if self.workers_client is None:
            raise NoClient("ctx.client needs a worker, and this job was called directly: run it by a worker or inline")
        return self.workers_client

    @property
    def logger(self) -> structlog.stdlib.BoundLogger:
        """A logger whose lines carry the job's name, id and try, as those of plain `logging` do."""
        logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(self.job)
        return logger

    def log_fields(self) -> dict[str, object]:
        """What every log line of the job carries."""
        return {"job": self.job, "job_id": self.job_id, "try": self.try_number}

    def progress(
        self,
        current: int,
        total: int | None = None,
        message: str | None = None,
        *,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        """Report how far the job is, with anything else in `meta`. Cheap, never waits, works from threads; readers see
        it within 0.1 s. A message is cut to 1,000 characters. A `meta` that is not JSON, or takes more than 4,096
        bytes, is left out with a warning in the log, and so is a call with values that are not numbers, such as NaN:
        progress never fails a job."""
        try:
            self.last_progress = Progress.of(current, total, message, None if meta is None else self._plain(meta))
        except (TypeError, ValueError, OverflowError) as error:
            if not self.numbers_refused:
                self.logger.warning("progress left out", reason=str(error))
            self.numbers_refused = True

    def _plain(self, meta: Mapping[str, Any]) -> dict[str, Any] | None:
        try:
            return wire.plain_meta(meta)
        except NotSerializable as error:
            if not self.meta_refused:
                self.logger.warning("progress without its meta", reason=str(error))
            self.meta_refused = True
            return None

    async def once(self, key: str, step: Callable[[], Awaitable[T]], *, keep: float = 7 * 86400) -> T:
        """Run `step` unless a run under this key is on record; return what it gave, then or now.

        The record is made in Redis after the step, so the promise is this: a step on record does not run again for
        `keep` seconds, and no two jobs are inside it at once while their leases hold; but if a worker is killed between
        the step's effect and the record, the step runs again. For money, use `once_in` within the effect's own database
        transaction, or pass `key` to the provider as its idempotency key. Keys are shared by all jobs. The value must
        be JSON and comes back as JSON reads it. A step that raises is not on record. A job that is called directly,
        without a worker, just runs the step.

        Raises:
            LeaseLost: this try may not act for the job any more.
            NotSerializable: the step returned something that is not JSON, or more of it than a result may take; it ran,
                and is not on record.
            BrokerUnavailable: Redis did not answer; if the step ran, that is not on record.
        """
        return await (step() if self.steps is None else self.steps.once(key, step, keep))

    def resource(self, kind: type[T]) -> T:
        """The worker's one open `kind`, as a function marked `@resource` provides it.

        Raises:
            UnknownResource: nothing provides this type.
        """
        try:
            found = self.resources[kind]
        except KeyError:
            raise UnknownResource(f"nothing provides {kind.__name__}: mark a function with @resource") from None
        return cast(T, found)  # stored under its own type; in tests it may be a stand-in for it


CONTEXT: ContextVar[Context | None] = ContextVar("embarq_context", default=None)  # of the job that runs here


def current_context() -> Context | None:
    """The context of the job that runs here, or None outside a job."""
    return CONTEXT.get()
