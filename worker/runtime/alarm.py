"""Calls a function soon, or at a time; once, however often it was asked to."""

import asyncio
import time
from collections.abc import Callable


class Alarm:
    """Of one loop, from the first request on. It may ring early, which does no harm."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._is_soon = False
        self._timer: asyncio.TimerHandle | None = None
        self._at = 0.0

    def soon(self) -> None:
        """Ring once the loop has got to all that is ready now."""
        if not self._is_soon:
            self._is_soon = True
            asyncio.get_running_loop().call_soon(self._rings)

    def until(self, at: float) -> None:
        """Ring at that time of the monotonic clock."""
        if self._timer is not None:
            if self._at <= at:
                return
            self._timer.cancel()
        self._at = at
        self._timer = asyncio.get_running_loop().call_later(max(0.0, at - time.monotonic()), self._rings_in_time)

    def stop(self) -> None:
        """Ring no more at a time."""
        if self._timer is not None:
            self._timer.cancel()

    def _rings(self) -> None:
        self._is_soon = False
        self._ring()

    def _rings_in_time(self) -> None:
        self._timer = None
        self._ring()
