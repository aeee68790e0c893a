"""Small jobs for trying things out."""

import asyncio
from typing import Annotated

from pydantic import Field, JsonValue

from worker import Context, Retry, job

PROGRESS_STEPS = 10


@job()
async def echo(value: JsonValue) -> JsonValue:
    """Return the value. Running it twice changes nothing."""
    return value


@job()
async def sleep(ctx: Context, seconds: Annotated[float, Field(ge=0, le=3600)]) -> float:
    """Wait, reporting progress in ten steps. Running it twice changes nothing."""
    for step in range(PROGRESS_STEPS):
        ctx.progress(step, PROGRESS_STEPS)
        await asyncio.sleep(seconds / PROGRESS_STEPS)
    ctx.progress(PROGRESS_STEPS, PROGRESS_STEPS)
    return seconds


@job(max_tries=20)
async def flaky(ctx: Context, fail_times: Annotated[int, Field(ge=0, lt=20)]) -> int:
    """Ask for another try until it has failed `fail_times`; return the number of the try that succeeded."""
    if ctx.try_number <= fail_times:
        raise Retry(delay=0.1)
    return ctx.try_number
