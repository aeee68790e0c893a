"""Trying changed code before what runs is replaced."""

import asyncio
import sys
import time
from collections.abc import Mapping

from worker.dev.children import Reaper
from worker.dev.stops import Stage, Stops

LOOK_EVERY = 0.1
TRIED_WITHIN = 60.0


async def problem_of(environment: Mapping[str, str], reaper: Reaper, stops: Stops) -> str | None:
    """What a fresh process says that imports the project; None if nothing is wrong, or somebody wants a stop first."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "worker.dev.check"),
        env=dict(environment),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    reaper.tell("+", process.pid)
    said = asyncio.create_task(process.communicate())
    deadline = time.monotonic() + TRIED_WITHIN
    while not said.done() and stops.stage is Stage.SERVING and time.monotonic() < deadline:
        await asyncio.wait({said}, timeout=LOOK_EVERY)
    is_late = not said.done()
    if is_late:
        process.kill()
    _, errors = await said
    reaper.tell("-", process.pid)
    if is_late and stops.stage is Stage.SERVING:
        return f"its import takes longer than {TRIED_WITHIN:.0f} s"
    return errors.decode(errors="replace") if process.returncode and not is_late else None
