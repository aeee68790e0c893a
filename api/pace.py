"""Long work in a request lets others have the event loop in between."""

import asyncio
import time

SLICE = 0.01  # seconds


class Pace:
    """Made where the work begins; `breathe` is called after each of its steps, which are short."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def breathe(self) -> None:
        """Give way, if the work has held the loop for ten milliseconds."""
        if time.perf_counter() - self._since >= SLICE:
            await asyncio.sleep(0)
            self._since = time.perf_counter()
