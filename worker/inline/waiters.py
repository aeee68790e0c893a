"""Those who wait for the end of a job or workflow of inline mode, in any loop."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from worker.broker.completions import MOST_WAITERS
from worker.core.errors import Overloaded
from worker.inline.frames import InlineDeadlock, frames


class Waiters:
    """Events by the id of what is waited for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: dict[str, dict[asyncio.Event, asyncio.AbstractEventLoop]] = {}

    @contextmanager
    def watch(self, name: str) -> Iterator[asyncio.Event]:
        """An event that is set when it ends.

        Raises:
            InlineDeadlock: the caller runs inside of it.
            Overloaded: as many wait as may.
        """
        for frame in frames():
            if name in {frame.run.claimed.id, frame.run.context.workflow_id}:
                raise InlineDeadlock(
                    f"{name} must not be waited for here: it cannot end before this job, which runs inside of it"
                )
        event = asyncio.Event()
        with self._lock:
            if sum(map(len, self._events.values())) >= MOST_WAITERS:
                raise Overloaded(f"at most {MOST_WAITERS:,} may wait for jobs to end: try again later")
            self._events.setdefault(name, {})[event] = asyncio.get_running_loop()
        try:
            yield event
        finally:
            with self._lock:
                del self._events[name][event]
                if not self._events[name]:
                    del self._events[name]

    def tell(self, name: str) -> None:
        """It has ended."""
        with self._lock:
            waiting = list(self._events.get(name, {}).items())
        for event, loop in waiting:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(event.set)
