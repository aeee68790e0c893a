"""Users of private servers as processes, and a look at what runs for a folder."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import ROOT

PATIENCE = 40.0


@dataclass
class User:
    """A process that uses servers below a folder; `found` has their URLs."""

    process: "subprocess.Popen[bytes]"
    found: dict[str, Any]

    def leave(self) -> None:
        """Let go in order, and wait for the end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(PATIENCE) == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)


@contextmanager
def user(folder: Path, *kinds: str, prefix: Sequence[str] = (), **environment: str) -> Iterator[User]:
    """A process that uses servers, for as long as the block runs at most."""
    command = [*prefix, sys.executable, "-m", "tests.worker.dev.user", str(folder), *kinds]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **environment}
    )
    with process:
        assert process.stdout is not None
        try:
            yield User(process, json.loads(process.stdout.readline()))
        finally:
            process.kill()


def processes_of(folder: Path) -> dict[int, str]:
    """Command lines of running processes that name the folder, by number."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in command:
                found[int(entry.name)] = command
    return found


def wait_until(look: Callable[[], bool], what: str | Callable[[], str]) -> None:
    """Wait, and fail with these words, which may be asked for then."""
    deadline = time.monotonic() + PATIENCE
    while not look():
        assert time.monotonic() < deadline, what if isinstance(what, str) else what()
        time.sleep(0.02)
