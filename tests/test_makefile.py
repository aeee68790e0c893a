"""`make run` with a Python that is too old says so in one line, and leaves no environment that stays broken."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import ROOT

# A Python that only says its version; asked for an environment, it makes one of its own kind with the commands of ours.
PYTHON = """#!/bin/sh
case "$1 $2" in
  "--version "*) echo "Python {version}" ;;
  "-m venv")
    mkdir -p .venv/bin && rm -rf .venv/bin/* && cp "$0" .venv/bin/python || exit 1
    printf '#!/bin/sh\\necho embarq runs on {version}\\n' > .venv/bin/embarq && chmod +x .venv/bin/embarq
    exit {venv} ;;
esac
"""


@dataclass(frozen=True)
class Clone:
    folder: Path

    def python(self, name: str, version: str, *, venv: int = 0) -> None:
        """Put a Python in front of PATH; `venv` is the exit code of `-m venv`."""
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(PYTHON.format(version=version, venv=venv))
        path.chmod(0o755)

    def make(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        environment = {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}
        return subprocess.run(
            ["make", *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    for name in ("requirements.txt", "requirements-dev.txt", "pyproject.toml"):
        (tmp_path / name).touch()
    return Clone(tmp_path)


@pytest.mark.parametrize("version", ["3.10.12", "3.9.2", "3.1.5", "2.7.18"])
def test_old_python_is_one_line_and_leaves_nothing(clone: Clone, version: str) -> None:
    clone.python("python3", version)
    made = clone.make("run")
    assert made.returncode != 0
    (line,) = made.stderr.splitlines()
    assert f"needs Python 3.11 or newer, but python3 is Python {version}" in line
    assert "make PYTHON=python3.12 run" in line
    assert not (clone.folder / ".venv").exists()


def test_missing_python_is_one_line_that_repeats_what_was_asked(clone: Clone) -> None:
    made = clone.make("PYTHON=python3.99", "test")
    (line,) = made.stderr.splitlines()
    assert "but python3.99 is not there" in line
    assert "make PYTHON=python3.12 test" in line


@pytest.mark.parametrize("version", ["3.11.0", "3.14.0rc1", "3.20.1"])
def test_new_python_runs(clone: Clone, version: str) -> None:
    clone.python("python3", version)
    assert clone.make("run").stdout == f"embarq runs on {version}\n"


def test_another_python_may_be_named_and_stays(clone: Clone) -> None:
    clone.python("python3", "3.10.12")
    clone.python("python-new", "3.12.1")
    assert clone.make("PYTHON=python-new", "run").stdout == "embarq runs on 3.12.1\n"
    assert clone.make("run").stdout == "embarq runs on 3.12.1\n"


def test_environment_of_an_older_python_is_made_anew(clone: Clone) -> None:
    clone.python("python3", "3.12.1")
    clone.make("run")
    clone.python("../.venv/bin/python", "3.10.12")  # as if it had been made by that one
    clone.python("python3", "3.13.1")
    assert clone.make("run").stdout == "embarq runs on 3.13.1\n"


def test_environment_whose_python_is_gone_is_made_anew(clone: Clone) -> None:
    clone.python("python3", "3.12.1")
    clone.make("run")
    python = clone.folder / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3.12")
    clone.python("python3", "3.13.1")
    assert clone.make("run").stdout == "embarq runs on 3.13.1\n"


def test_environment_that_cannot_be_made_is_not_left_behind(clone: Clone) -> None:
    clone.python("python3", "3.12.1", venv=1)
    assert clone.make("run").returncode != 0
    assert not (clone.folder / ".venv").exists()
    clone.python("python3", "3.12.1")
    assert clone.make("run").stdout == "embarq runs on 3.12.1\n"
