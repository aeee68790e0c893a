"""Long work in a request lets others have the event loop in between."""

import asyncio
import time

SLICE = 0.01  # seconds


class Turns:
    """Made where the work begins; `give_way` is called after each of its steps, which are short."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def give_way(self) -> None:
        """Let others have their turn, if the work has held the loop for ten milliseconds."""
        if time.perf_counter() - self._since >= SLICE:
            await asyncio.sleep(0)
            self._since = time.perf_counter()
