"""The work that is measured, for our worker."""

import time

from worker import job


@job()
async def noop() -> None:
    pass


@job()
async def stamp() -> float:
    """When it started, in Unix seconds."""
    return time.time()
