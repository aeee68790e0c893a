"""Two users of one machine have private servers at once, and neither sees anything of the other's."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.worker.dev.processes import PATIENCE, user
from tests.worker.dev.test_servers import ask_postgres, folder, gone, pinged

__all__ = ["folder"]

NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
# An interpreter may lie where only root may pass; this lets another user pass, and write nowhere.
PASSING = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")


def _works(prefix: Sequence[str]) -> bool:
    # Where its library is out of reach, the interpreter may find that of another version.
    code = "import sys, redis.asyncio, worker.dev; assert sys.version == sys.argv[1]"
    command = [*prefix, sys.executable, "-c", code, sys.version]
    return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=PATIENCE, check=False).returncode == 0


@pytest.fixture(scope="module")
def as_nobody() -> tuple[str, ...]:
    """The start of a command that another user runs."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("running something as another user needs root and setpriv (util-linux)")
    found = next((prefix for prefix in (AS_NOBODY, (*AS_NOBODY, *PASSING)) if _works(prefix)), None)
    if found is None:
        assert "CI" not in os.environ, "another user can run our interpreter neither so nor with a capability"
        pytest.skip("another user may not run this interpreter")
    return found


@pytest.fixture
def of_nobody() -> Iterator[Path]:
    """A folder of the other user's."""
    with tempfile.TemporaryDirectory(prefix="embarq-") as name:
        os.chown(name, NOBODY, NOBODY)
        yield Path(name)
        gone(Path(name))


def test_second_user_starts_servers_of_its_own(folder: Path, of_nobody: Path, as_nobody: tuple[str, ...]) -> None:
    with (
        user(folder, "redis", "postgres") as first,
        user(of_nobody, "redis", "postgres", prefix=as_nobody, HOME="/nonexistent") as second,
    ):
        for each in (first, second):
            assert pinged(each.found["redis"])
            ask_postgres(each.found["postgres"])
        strangers = {path for path in of_nobody.rglob("*") if path.stat().st_uid != NOBODY}
        assert strangers == set()
        for url in ("redis", "postgres"):
            assert "PermissionError" in _connecting(as_nobody, first.found[url])
        second.leave()
        assert pinged(first.found["redis"])
        first.leave()


def _connecting(prefix: Sequence[str], url: str) -> str:
    """What another user gets who tries a socket."""
    path = url.removeprefix("unix://") if url.startswith("unix:") else f"{url.partition('host=')[2]}/.s.PGSQL.5432"
    code = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    command = [*prefix, sys.executable, "-c", code, path]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False).stderr


def test_data_folder_of_another_user_is_told_in_one_line(folder: Path, as_nobody: tuple[str, ...]) -> None:
    folder.chmod(0o755)
    (folder / "data").mkdir(mode=0o755)
    command = [*as_nobody, sys.executable, "-m", "worker.cli", "queue", "list"]
    environment = {"EMBARQ_DATA_DIR": str(folder / "data"), "HOME": "/nonexistent"}
    ended = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr == (
        f"embarq: Redis cannot keep its data: {folder / 'data' / 'redis'}: Permission denied; "
        "set EMBARQ_DATA_DIR to a folder of your own, or REDIS_URL\n"
    )


def test_root_says_who_runs_postgres(folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("Postgres runs as its own user unless that is root")
    command = [sys.executable, "-m", "tests.worker.dev.user", str(folder / "data"), "postgres"]
    ended = subprocess.run(command, cwd=ROOT, input="", capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert ended.stderr.count("postgres runs as a system user") == 1
    assert "user=pgserver" in ended.stderr
    assert (folder / "data" / "postgres").stat().st_uid != 0
    assert (folder / "data").stat().st_mode & 0o777 == 0o701  # passed, not listed
