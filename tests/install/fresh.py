"""Fresh environments, folders of one's own, and commands that run in them."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.serving import wait_until_ready
from tests.support import MARK, ROOT, free_port, marked

START_LIMIT = 120
STOP_LIMIT = 60
GONE_LIMIT = 15
COMMAND_LIMIT = 300
OURS = ("EMBARQ_", "REDIS_URL", "DATABASE_URL", "PORT", "WEB_CONCURRENCY", "PYTHONPATH", "VIRTUAL_ENV", "PYTEST_")


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without what is ours, or of the environment in which the tests run."""
    here = str(Path(sys.executable).parent)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    kept["PATH"] = os.pathsep.join(path for path in os.environ["PATH"].split(os.pathsep) if path != here)
    return kept | more


@dataclass(frozen=True)
class Fresh:
    """A folder, and the environment whose commands run in it."""

    folder: Path
    bin: Path

    def variables(self, **more: str) -> dict[str, str]:
        """The environment as after `activate`."""
        own = clean_environment(**more)
        return own | {"PATH": f"{self.bin}{os.pathsep}{own['PATH']}"}

    def run(self, *command: str, **more: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end; what it prints is in `stdout`."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.variables(**more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_LIMIT,
            check=False,
        )

    def must(self, *command: str, **more: str) -> str:
        """Run a command that ends well; what it prints."""
        ended = self.run(*command, **more)
        assert ended.returncode == 0, f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stdout}"
        return ended.stdout

    @contextmanager
    def running(
        self,
        *command: str,
        port: int = 0,
        variables: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        stop: signal.Signals = signal.SIGINT,
    ) -> Iterator[httpx.Client]:
        """A command that serves HTTP on a port, a free one by default, with a worker unless it is the API alone. Ctrl-C
        ends it, or what a host sends, and nothing of it is left. `headers`: of all requests."""
        port = port or free_port()
        log = self.folder.with_name(f"{self.folder.name}-{port}.log")
        mark = uuid.uuid4().hex
        own = self.variables(PORT=str(port), EMBARQ_MAIL_PORT=str(free_port()), **(variables or {}), **{MARK: mark})
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=self.folder, env=own, stdout=output, stderr=output, start_new_session=True
            )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60) as http:
                wait_until_ready(http, process, log, workers="api" not in command, within=START_LIMIT)
                yield http
            os.killpg(process.pid, stop)  # as a terminal does
            assert process.wait(STOP_LIMIT) in {0, 128 + stop, -stop}, log.read_text()  # the last one is what make says
            wait_until_gone(mark, log)
        finally:
            for pid in marked(mark):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait(STOP_LIMIT)


def wait_until_gone(mark: str, log: Path) -> None:
    """Wait until nothing runs any more of what has this mark, in whichever session it is."""
    deadline = time.monotonic() + GONE_LIMIT
    while left := marked(mark):
        assert time.monotonic() < deadline, f"{left} still run:\n{log.read_text()}"
        time.sleep(0.1)


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Files in a new folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def copy_of_the_repository(folder: Path) -> Path:
    """The files of this checkout, as they are."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder
