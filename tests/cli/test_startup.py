"""Help and wrong arguments are answered before anything large is loaded."""

import os
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

HEAVY = {"arq", "asyncio", "redis", "rich", "sqlalchemy", "structlog", "uvicorn"}


def loaded_by(*arguments: str) -> tuple[set[str], int]:
    """The modules that a command imports, and its exit code."""
    command = [sys.executable, "-X", "importtime", "-m", "worker.cli", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    lines = [line for line in ended.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}, ended.returncode


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--help",), 0),
        (("--version",), 0),
        (("worker", "--help"), 0),
        (("queue", "--help"), 0),
        (("worker", "--no-such-option"), 2),
        (("worker", "-c", "many"), 2),
        (("job",), 2),
        (("queue", "pause"), 2),
        (("no-such-command",), 2),
    ],
)
def test_nothing_large_is_loaded_for(arguments: tuple[str, ...], code: int) -> None:
    modules, ended = loaded_by(*arguments)
    assert ended == code
    assert "worker.cli.operate" in modules
    assert not modules & HEAVY  # Typer reads arguments with pydantic
    assert "pydantic" not in modules or "--help" not in arguments[:1]
    others = {name for name in modules if name.startswith("worker.") and not name.startswith("worker.cli")}
    assert others <= {"worker.core", "worker.core.version"}


@pytest.mark.parametrize("command", ["worker", "job", "enqueue"])
def test_command_that_needs_redis_loads_neither_a_database_nor_a_web_server(command: str) -> None:
    modules, _ = loaded_by(command, "x", "y", "z")
    assert not modules & {"sqlalchemy", "uvicorn", "starlette"}


def test_version_is_that_of_the_package() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "worker.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert ended.stdout == f"embarq {metadata.version('embarq')}\n"


def test_ctrl_c_while_it_loads_is_the_end_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n")
    ended = subprocess.run(
        [sys.executable, "-m", "worker.cli", "--help"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, b"")
