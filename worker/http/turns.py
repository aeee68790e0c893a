"""Long work in a request yields the event loop to others in between."""

import asyncio
import time

SLICE = 0.01  # seconds


class Turns:
    """Made where the work begins; `give_way` is called after each of its short steps."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def give_way(self) -> None:
        """Yield to other tasks, if the work has held the loop for ten milliseconds."""
        if time.perf_counter() - self._since >= SLICE:
            await asyncio.sleep(0)
            self._since = time.perf_counter()
