"""Changed code is tried in a process of its own, of which nothing is left, whatever the code does."""

import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from worker.dev import trial
from worker.dev.children import Reaper
from worker.dev.stops import Stops
from worker.dev.trial import problem_of

Tried = Callable[[str], Awaitable[str | None]]
STARTS_A_PROGRAM = """
import pathlib, subprocess
started = subprocess.Popen(["sleep", "600"])
pathlib.Path("pid").write_text(str(started.pid))
"""


@pytest.fixture
def reaper() -> Iterator[Reaper]:
    made = Reaper()
    yield made
    made.close()


@pytest.fixture
def tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reaper: Reaper) -> Tried:
    """What is wrong with a module of jobs."""
    (tmp_path / "pyproject.toml").write_text('[tool.embarq]\njobs = ["tasks"]\n')
    monkeypatch.chdir(tmp_path)

    async def attempt(code: str) -> str | None:
        (tmp_path / "tasks.py").write_text(code)
        return await problem_of(os.environ, reaper, Stops(1.0))

    return attempt


def has_ended(pid: int, within: float = 30.0) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    return False


async def test_code_that_works_has_no_problem(tried: Tried) -> None:
    assert await tried("") is None


async def test_problem_is_what_the_import_says(tried: Tried) -> None:
    found = await tried("import nothing_of_this_name")
    assert found is not None
    assert "No module named 'nothing_of_this_name'" in found


async def test_variables_of_the_env_file_are_there(tried: Tried, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MY_TOKEN=secret\n")
    assert await tried('import os\nos.environ["MY_TOKEN"]') is None


@pytest.mark.skipif(sys.platform != "linux", reason="what runs is found in /proc")
@pytest.mark.parametrize(("then", "fails"), [("", False), ("1 / 0", True)])
async def test_program_that_the_import_starts_holds_nothing_up(
    tried: Tried, tmp_path: Path, then: str, fails: bool
) -> None:
    found = await tried(STARTS_A_PROGRAM + then)
    assert (found is not None and "ZeroDivisionError" in found) is fails
    assert has_ended(int((tmp_path / "pid").read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="what runs is found in /proc")
async def test_import_that_does_not_end_is_given_up(
    tried: Tried, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "TRIED_WITHIN", 5.0)
    found = await tried(STARTS_A_PROGRAM + "import time\ntime.sleep(600)")
    assert found == "its import must not take longer than 5 s"
    assert has_ended(int((tmp_path / "pid").read_text()))


async def test_import_that_does_not_stop_to_talk_is_given_up(tried: Tried) -> None:
    found = await tried("import sys\nwhile True:\n    sys.stderr.write('again and again\\n' * 1000)")
    assert found is not None
    assert found.startswith("its import must not write more than ")
    assert len(found) < 21_000
