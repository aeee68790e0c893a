"""A command of ours in a terminal of its own: what it shows, keys, the end."""

import fcntl
import json
import os
import pty
import re
import select
import shlex
import signal
import socket
import struct
import sys
import termios
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import Request, urlopen

from tests.support import MARK, free_port, marked

PATIENCE = 90.0
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
EMBARQ = f"{shlex.quote(sys.executable)} -m worker.cli"


class Terminal:
    """A shell line that runs in a pseudo-terminal, as the leader of its session."""

    def __init__(self, line: str, folder: Path, **environment: str) -> None:
        self.mark = uuid.uuid4().hex
        self.port = int(environment.get("PORT") or free_port())
        known = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
        own = {"TERM": "xterm-256color", "PORT": str(self.port), MARK: self.mark, "REDIS_URL": "", "DATABASE_URL": ""}
        self.pid, self._descriptor = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execve("/bin/sh", ["sh", "-c", line], known | own | environment)  # noqa: S606
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        self.raw = ""
        self._seen = 0
        self._code: int | None = None
        self._is_open = True
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):  # all who had it open have ended
            while self._is_open:
                if select.select([self._descriptor], [], [], 0.05)[0]:
                    self.raw += os.read(self._descriptor, 65536).decode(errors="replace")

    @property
    def text(self) -> str:
        """All that it has shown, without colours."""
        return COLOUR.sub("", self.raw).replace("\r\n", "\n")

    def shows(self, words: str, within: float = PATIENCE) -> str:
        """Wait for words, behind those that were waited for before; the line that has them."""
        deadline = time.monotonic() + within
        while True:
            text = self.text
            found = text.find(words, self._seen)
            end = text.find("\n", found)
            if found >= 0 and end >= 0:
                self._seen = found + len(words)
                return text[text.rfind("\n", 0, found) + 1 : end]
            assert time.monotonic() < deadline, f"{words!r} does not come:\n{text}"
            time.sleep(0.05)

    def press(self, keys: bytes) -> None:
        os.write(self._descriptor, keys)

    def close(self) -> None:
        """Close the window, which nobody may be reading from then."""
        self._is_open = False
        self._reader.join()
        os.close(self._descriptor)

    def code(self, within: float = PATIENCE) -> int:
        """The exit code, negative by a signal."""
        deadline = time.monotonic() + within
        while self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
            else:
                assert time.monotonic() < deadline, f"it does not end:\n{self.text}"
                time.sleep(0.05)
        return self._code

    def kill(self) -> None:
        """End everything, however the test ended."""
        for pid in self.processes():
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        with suppress(OSError):  # its end was seen already
            os.waitpid(self.pid, 0)
        if self._is_open:
            self.close()

    def processes(self) -> dict[int, str]:
        """What runs still of all that was ever started from here: it has the mark in its environment."""
        return marked(self.mark)

    def process(self, words: str) -> int:
        """The one whose command line has these words."""
        (pid,) = [pid for pid, command in self.processes().items() if words in command]
        return pid

    def is_gone(self, within: float = PATIENCE) -> None:
        """Wait until nothing of it runs any more, and see that its port is free."""
        deadline = time.monotonic() + within
        self.code(within)
        while left := self.processes():
            assert time.monotonic() < deadline, left
            time.sleep(0.1)
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", self.port)) != 0

    def asks(self, path: str, body: Mapping[str, object] | None = None, accept: str = "application/json") -> str:
        """What the API answers."""
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.port}{path}"
        with urlopen(Request(url, data, {"Accept": accept}), timeout=60) as answer:
            text: str = answer.read().decode()
            return text


@contextmanager
def terminal(line: str, folder: Path, **environment: str) -> Iterator[Terminal]:
    opened = Terminal(line, folder, **environment)
    try:
        yield opened
    finally:
        opened.kill()
