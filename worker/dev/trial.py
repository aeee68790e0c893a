"""Trying changed code before the running processes are replaced."""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import IO

from worker.core.texts import LONGEST_TRACEBACK, tail
from worker.dev.children import Reaper
from worker.dev.stops import Stage, Stops

LOOK_EVERY = 0.1
TRIED_WITHIN = 60.0
GONE_WITHIN = 5.0
MOST_SAID = 1_000_000  # bytes


async def problem_of(environment: Mapping[str, str], reaper: Reaper, stops: Stops) -> str | None:
    """The error of a fresh process that imports the project; None if there is none, or a stop is requested first.

    Nothing of it is left afterwards. Its output goes to a file: programs that the code starts at import may keep a pipe
    open without end.
    """
    with tempfile.TemporaryFile() as said:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "worker.dev.check"),
            env=dict(environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
        reaper.tell("+", process.pid)
        try:
            problem = await _watch(process, said, stops)
        finally:
            await _end(process)
            reaper.tell("-", process.pid)
        return problem if stops.stage is Stage.SERVING else None


async def _watch(process: asyncio.subprocess.Process, said: IO[bytes], stops: Stops) -> str | None:
    """What is wrong, once the process has ended, or takes or writes too much."""
    ended = asyncio.create_task(process.wait())
    deadline = time.monotonic() + TRIED_WITHIN
    try:
        while not ended.done() and stops.stage is Stage.SERVING:
            if time.monotonic() > deadline:
                return f"its import must not take longer than {TRIED_WITHIN:.0f} s"
            if os.fstat(said.fileno()).st_size > MOST_SAID:
                return f"its import must not write more than {MOST_SAID:,} bytes, as it does:\n{_end_of(said)}"
            await asyncio.wait({ended}, timeout=LOOK_EVERY)
        return _end_of(said) if process.returncode else None
    finally:
        ended.cancel()


def _end_of(said: IO[bytes]) -> str:
    size = os.fstat(said.fileno()).st_size
    words = os.pread(said.fileno(), LONGEST_TRACEBACK, max(0, size - LONGEST_TRACEBACK))
    return tail(words.decode(errors="replace"), LONGEST_TRACEBACK)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill what is left of its process group."""
    with contextlib.suppress(OSError):  # the group is empty
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):  # it hangs in the kernel
        await asyncio.wait_for(process.wait(), GONE_WITHIN)
