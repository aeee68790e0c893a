"""The command `embarq` in a folder of the test's own."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

PATIENCE = 60  # seconds, on a machine that has much else to do
NOWHERE = "redis://127.0.0.1:1"


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The only line on standard error."""
        (line,) = self.err.splitlines()
        return line


Embarq = Callable[..., Ran]


@pytest.fixture
def embarq(tmp_path: Path) -> Embarq:
    """Runs the command in the test's folder, with more variables in the environment; `typed`: on its keyboard."""

    def run(*arguments: str, typed: str = "", **environment: str) -> Ran:
        ended = subprocess.run(
            [sys.executable, "-m", "worker.cli", *arguments],
            cwd=tmp_path,
            env={**os.environ, "REDIS_URL": NOWHERE, **environment},
            input=typed,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return Ran(ended.returncode, ended.stdout, ended.stderr)

    return run


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], None]:
    """Writes a file of the test's folder."""

    def write_file(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return write_file
