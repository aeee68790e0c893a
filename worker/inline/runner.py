"""Runs jobs in the calling process: by the worker's executor, one try after the other, without waiting in between."""

import asyncio
import contextlib
import contextvars
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import structlog

from worker.broker.exchange import Claimed, Ended
from worker.client import Client
from worker.core import keys, wire
from worker.core.config import WorkerConfig
from worker.core.job import State
from worker.definition.definitions import JobDefinition
from worker.definition.registry import Registry
from worker.definition.resources import Provider, open_resources
from worker.execution.attempt import Attempt, Stop
from worker.execution.elsewhere import Elsewhere
from worker.execution.executor import Executor
from worker.execution.failures import failure
from worker.execution.outcomes import Outcome
from worker.inline.frames import Frame, Place, current
from worker.inline.memory import Entry

logger = structlog.stdlib.get_logger("embarq.inline")

LOOK_AT_LIMITS = 0.05  # seconds
WORKER = "inline"


class InlineExecutor(Executor):
    """Runs jobs with `process=True` in a thread: breakpoints, coverage and a test's patches work there, too."""

    def _room(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    async def _in_process(self, run: Attempt, definition: JobDefinition[..., Any], arguments: dict[str, Any]) -> object:
        return await self._in_thread(run, definition, arguments)


class Runner:
    """Runs the jobs of a registry in one event loop, with resources that are opened for the first of them."""

    def __init__(
        self,
        client: Client,
        registry: Registry,
        config: WorkerConfig,
        settle: Callable[[Entry, Ended], None],
    ) -> None:
        """`settle` keeps the end of a job."""
        self._client = client
        self._registry = registry
        self._config = config
        self._settle = settle
        self._executor = InlineExecutor(
            registry, config, WORKER, client.queue_store, client.workflow_store, Elsewhere(client.inspector)
        )
        self._executor.client = client
        self._providers: Sequence[Provider] = ()
        self._keeper: asyncio.Task[None] | None = None
        self._opened: asyncio.Future[Mapping[type, object]] | None = None

    async def open(self) -> None:
        """Open the resources, unless they are open; raises what a provider raises, and may be retried then. They are
        opened again where a test has replaced a provider."""
        providers = self._registry.providers
        if providers != self._providers:
            await self._close_resources()
            self._providers = providers
        if self._keeper is None or self._keeper.done() or self._opened is None:
            self._opened = asyncio.get_running_loop().create_future()
            keeping = self._keep_resources(self._opened)
            # Not the caller's task: they stay open when it ends, and are closed by the task that opened them.
            self._keeper = asyncio.create_task(keeping, name="inline resources", context=contextvars.Context())
        await asyncio.wait([self._opened])
        self._executor.resources = self._opened.result()

    async def close(self) -> None:
        """End running hooks, and close the resources, if they are open."""
        await self._executor.close()
        await self._close_resources()

    async def _close_resources(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])

    async def _keep_resources(self, opened: "asyncio.Future[Mapping[type, object]]") -> None:
        try:
            async with open_resources(self._providers) as resources:
                opened.set_result(resources)
                with contextlib.suppress(asyncio.CancelledError):  # closed without an error, as by a worker that stops
                    await asyncio.Event().wait()
        except BaseException as error:
            if opened.done():
                raise
            opened.set_exception(error)

    async def run(self, entry: Entry, place: Place) -> None:
        """Run a job to its end. It does not raise what the job raises.

        Raises:
            asyncio.CancelledError: the caller was cancelled, and the job with it.
        """
        while not entry.has_ended:
            entry.tries += 1
            await self._try(entry, place)

    def drop(self, entry: Entry) -> None:
        """End a job that has not started as cancelled."""
        run = self._executor.prepare(_claim(entry))
        run.payload = wire.loads(entry.payload, wire.Payload)
        told = failure("CancelledError", "cancelled before it started")
        self._settle(entry, self._executor.outcomes.end(run, State.CANCELLED, told))

    async def _try(self, entry: Entry, place: Place) -> None:
        """One try in a task of its own, without the caller's context variables, as in a worker."""
        loop = asyncio.get_running_loop()
        run = self._executor.prepare(_claim(entry))
        run.leased_until = math.inf
        run.inside = contextvars.Context()
        run.inside.run(current.set, Frame(run, place))
        entry.run, entry.loop = run, loop
        trying = loop.create_task(self._executor.execute(run), name=f"job {entry.id}", context=run.inside)
        run.task = trying
        outcome: Outcome | None = None
        try:
            try:
                outcome = await self._outcome(run, trying)
            except asyncio.CancelledError:
                run.cancel(Stop.CANCELLED)
                if entry.step is not None:  # and with it the rest of its workflow
                    entry.step[0].flow.cancel()
                outcome = await self._outcome(run, trying)
                raise
        finally:
            after = self._take(entry, run, outcome or self._executor.outcomes.stopped(run, None))
        await after.wait()

    async def _outcome(self, run: Attempt, trying: "asyncio.Task[Outcome | None]") -> Outcome | None:
        """Enforce the job's limits until it ends, or has ignored its cancellation for too long."""
        while not trying.done():
            await asyncio.wait([trying], timeout=LOOK_AT_LIMITS)
            now = time.monotonic()
            run.keep_limits(now)
            if not trying.done() and run.stopped_at is not None and now > run.stopped_at + self._config.cancel_grace:
                stack = run.stack() if run.stack is not None else ""
                logger.error("job abandoned: it does not end", job_id=run.claimed.id, job=run.context.job, stack=stack)
                return self._executor.outcomes.stopped(run, None)
        return trying.result()

    def _take(self, entry: Entry, run: Attempt, outcome: Outcome | None) -> asyncio.Event:
        """Keep what became of a try; the event is set when the hooks that follow have ended."""
        entry.run = entry.loop = None
        if isinstance(outcome, Ended):
            self._settle(entry, outcome)
        elif outcome is not None and outcome.record:
            entry.past = [*entry.past, outcome.record][-keys.TRIES_KEPT :]
        after = asyncio.Event()
        if outcome is None or not self._executor.hooks.stored(run, outcome, after.set):
            after.set()
        return after


def as_queued(payload: bytes, now_ms: int, due_ms: int) -> bytes:
    """A payload with its times, as the enqueue script completes it."""
    return payload[:-1] + b',"du":%d,"et":%d}' % (min(due_ms, wire.END_OF_TIME_MS), now_ms)


def _claim(entry: Entry) -> Claimed:
    """What a claim would bring. Every try has a token of its own."""
    token = f"{keys.TOKEN}{WORKER}:{entry.id}-{entry.tries}"
    now_ms = time.time_ns() // 1_000_000
    queue_key, payload = entry.new.queue_key, entry.payload
    return Claimed(entry.id, queue_key, token, payload, entry.tries, 0, entry.is_cancelled, now_ms)
