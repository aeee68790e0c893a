"""Notices from a thread that an event loop is blocked: something in it computes, or waits without `await`."""

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog

logger = structlog.stdlib.get_logger("embarq.loop")

FRAMES_SHOWN = 12

# What the loop's current task belongs to, as fields of a log line. Called in the watching thread.
Describe = Callable[["asyncio.Task[Any] | None"], dict[str, Any]]


class LoopWatch:
    """Watches the loop in which it is created; some thread calls `look`, every tenth of `blocked_after` seconds.
    `blockages` counts how often the loop was blocked; `longest` is the longest such time, in seconds."""

    def __init__(self, blocked_after: float, describe: Describe) -> None:
        self._blocked_after = blocked_after
        self._describe = describe
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._beat_at = time.monotonic()
        self._reported = False
        self.blockages = 0
        self.longest = 0.0

    def look(self) -> None:
        """Report the loop, once per blockage, if it has not run a callback for `blocked_after` seconds.

        Raises:
            RuntimeError: the loop is closed.
        """
        blocked = time.monotonic() - self._beat_at
        self.longest = max(self.longest, blocked)
        if blocked < self._blocked_after:
            self._reported = False
            self._loop.call_soon_threadsafe(self._beat)
        elif not self._reported:  # a beat is scheduled already, and runs when the loop does
            self._reported = True
            self.blockages += 1
            self._report(blocked)

    def _beat(self) -> None:
        self._beat_at = time.monotonic()

    def _report(self, blocked: float) -> None:
        frame = sys._current_frames().get(self._thread)
        stack = "".join(traceback.format_stack(frame)[-FRAMES_SHOWN:]) if frame else ""
        known = self._describe(asyncio.current_task(self._loop))
        logger.error("the event loop is blocked", seconds=round(blocked, 2), **known, stack=stack)


@asynccontextmanager
async def watching(blocked_after: float, describe: Describe) -> AsyncIterator[LoopWatch]:
    """Watch the running loop from a thread of its own for as long as the block runs."""
    watch = LoopWatch(blocked_after, describe)
    stop = threading.Event()

    def work() -> None:
        with suppress(RuntimeError):  # the loop was closed without leaving the block
            while not stop.wait(blocked_after / 10):
                watch.look()

    thread = threading.Thread(target=work, name="loop-watch", daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        stop.set()
        await asyncio.to_thread(thread.join, 1.0)
