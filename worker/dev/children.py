"""Children of `embarq dev`: the API and a worker, what they write, and their end."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from worker.core.stopping import StopPlan
from worker.dev.locks import held
from worker.runtime.supervisor import Slot

LONGEST_LINE = 65_536  # bytes; a longer one is shown in parts
LINE_END = re.compile(rb"\r?\n|\r(?!\n|\Z)")  # progress bars end their lines with \r alone
READ_AT_END = 64  # times
CLOSE_WITHIN = 5.0


class Reaper:
    """The process that ends the children if this one is killed, and keeps their private servers until then."""

    def __init__(self) -> None:
        command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("reaper.py"))]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=held(),
        )

    def tell(self, sign: str, pid: int) -> None:
        """A child has started, `+`, or ended, `-`."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):  # the reaper was killed
                self._process.stdin.write(f"{sign}{pid}\n".encode())
                self._process.stdin.flush()

    def close(self) -> None:
        """No child is left."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_WITHIN)


class Child:
    """A process of ours with a name, in a session of its own, so that a terminal's signals reach `embarq dev` alone."""

    def __init__(self, name: str, reaper: Reaper, show: Callable[[str, str], None]) -> None:
        """`show`: takes the name and each line that it writes."""
        self.name = name
        self._reaper = reaper
        self._show = show
        self._slot = Slot(0)
        self._output = -1
        self._rest = b""

    def start(self, command: Sequence[str], environment: Mapping[str, str], files: Sequence[int] = ()) -> None:
        """Start a command of ours. `files`: descriptors that it inherits."""
        self._output, theirs = os.pipe()
        os.set_blocking(self._output, False)
        own = [sys.executable, "-m", "worker.cli", *command]
        try:
            self._slot.start(own, output=theirs, environment=environment, files=files)
        finally:
            os.close(theirs)
        self._reaper.tell("+", self.pid)
        asyncio.get_running_loop().add_reader(self._output, self._hear)

    @property
    def pid(self) -> int:
        """The id of the process, which is that of its group, too."""
        return self._slot.process.pid if self._slot.process else -1

    @property
    def is_there(self) -> bool:
        """Whether it was started, and its end has not been noticed yet."""
        return self._slot.process is not None

    @property
    def started(self) -> float:
        """When it was started, on the monotonic clock."""
        return self._slot.started

    def hear(self) -> None:
        """Read what it reports."""
        self._slot.hear()

    @property
    def running(self) -> int | None:
        """How many jobs it waits for, once it is stopping and has reported it."""
        return self._slot.running

    @property
    def example(self) -> bytes | None:
        """A request to try, which may be empty, once it is ready; None before."""
        return self._slot.example

    def ended(self) -> int | None:
        """Its exit code, negative for a signal, once after its end; what it left in its group is killed."""
        code = self._slot.process.poll() if self._slot.process else None
        if code is None:
            return None
        self.kill()
        self._reaper.tell("-", self.pid)
        self._slot.end()
        asyncio.get_running_loop().remove_reader(self._output)
        for _ in range(READ_AT_END):
            if not self._read():
                break
        os.close(self._output)
        self._show_rest()
        return code

    def stop(self, plan: StopPlan) -> None:
        """Do what the plan says now; to be called repeatedly."""
        self._slot.stop(plan)

    def kill(self) -> None:
        """Kill it, and what is in its group."""
        if self.is_there:
            with contextlib.suppress(OSError):  # the group is empty
                os.killpg(self.pid, signal.SIGKILL)

    def _hear(self) -> None:
        if not self._read():  # end of file: all processes with the other end have ended
            asyncio.get_running_loop().remove_reader(self._output)

    def _read(self) -> bool:
        """Show a part of what it has written; whether there may be more."""
        try:
            data = os.read(self._output, LONGEST_LINE)
        except BlockingIOError:
            return True
        *lines, self._rest = LINE_END.split(self._rest + data)
        for line in lines:
            self._show(self.name, line.decode(errors="replace"))
        if len(self._rest) > LONGEST_LINE:
            self._show_rest()
        return bool(data)

    def _show_rest(self) -> None:
        if self._rest:
            self._show(self.name, self._rest.decode(errors="replace"))
        self._rest = b""
