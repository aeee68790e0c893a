"""Calls the hooks of a worker's tries. Whatever they do, the job does not suffer: what one raises is logged, each has a
bounded time, and one that does not end is left behind."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from worker.broker.exchange import Ended, Requeue
from worker.core.hooks import Hooks, JobEnd
from worker.core.job import State
from worker.execution.attempt import Attempt, Stop

logger = structlog.stdlib.get_logger("embarq.hooks")

WITHIN = 5.0  # seconds for a hook
WITHIN_STOP = 0.5  # where the try was stopped, and whoever stopped it waits
CLOSED_WITHIN = 0.2
MOST_LEFT = 100  # calls that do not end, after which no hook is called any more


class HookCalls:
    """Calls hooks within the context variables of their try: what one sets, the job and later ones see."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._after: set[asyncio.Task[None]] = set()
        self._left: set[asyncio.Task[None]] = set()

    async def started(self, run: Attempt) -> None:
        """The function is about to be called."""
        run.has_hooks = self._hooks.any
        for hook in self._hooks.start:
            await self._call(run, hook, run.context)

    async def ended(self, run: Attempt, outcome: Ended | Requeue | None) -> None:
        """The function has ended, and what becomes of the job is about to be stored. Where the try is stopped
        meanwhile, its hooks are broken off: it is over, and nobody is to wait for them."""
        if not self._hooks.end:
            return
        run.lift_limits()
        end = _end_of(run, outcome)
        try:
            for hook in self._hooks.end:
                await self._call(run, hook, run.context, end)
        except asyncio.CancelledError:
            logger.warning("hooks were broken off", job_id=run.claimed.id)

    def stored(self, run: Attempt, outcome: Ended | Requeue, done: Callable[[], None]) -> bool:
        """What became of the job is stored. Whether there are hooks to call: `done` is called when they have ended."""
        if not (run.has_hooks and self._hooks.after):
            return False
        after = asyncio.create_task(self._call_after(run, _end_of(run, outcome)), name=f"end of {run.claimed.id}")
        self._after.add(after)
        after.add_done_callback(self._after.discard)
        after.add_done_callback(lambda _: done())
        return True

    async def _call_after(self, run: Attempt, end: JobEnd) -> None:
        for hook in self._hooks.after:
            await self._call(run, hook, run.context, end)

    async def _call(self, run: Attempt, hook: Callable[..., Awaitable[object]], *args: object) -> None:
        """Call one in a task of its own: that may be left behind."""
        if len(self._left) >= MOST_LEFT:
            logger.error("hook is not called: too many calls do not end", hook=_name(hook), calls=len(self._left))
            return
        within = WITHIN if run.stop in {None, Stop.TIME_LIMIT} else WITHIN_STOP
        call = asyncio.create_task(_guarded(hook, args), name=f"hook of {run.claimed.id}", context=run.inside)
        try:
            await asyncio.wait([call], timeout=within)
        finally:
            if not call.done():
                self._left.add(call)
                call.add_done_callback(self._left.discard)
                call.cancel()
        if not call.done():
            logger.error("hook is cancelled: it takes too long", hook=_name(hook), seconds=within)

    async def close(self) -> None:
        """End what is under way; what does not end is left."""
        under_way = [*self._after, *self._left]
        for task in under_way:
            task.cancel()
        if under_way:
            await asyncio.wait(under_way, timeout=CLOSED_WITHIN)


async def _guarded(hook: Callable[..., Awaitable[object]], args: Sequence[object]) -> None:
    try:
        await hook(*args)
    except asyncio.CancelledError:
        raise
    except BaseException:  # also what would end the process
        logger.exception("hook failed", hook=_name(hook))


def _name(hook: object) -> str:
    return str(getattr(hook, "__qualname__", hook))


def _end_of(run: Attempt, outcome: Ended | Requeue | None) -> JobEnd:
    if outcome is None:
        state = None
    elif isinstance(outcome, Ended):
        state = outcome.state
    else:
        state = State.QUEUED if outcome.released else State.RETRYING
    succeeded = state is State.SUCCEEDED
    return JobEnd(state, run.duration, run.result if succeeded else None, None if succeeded else run.error)
