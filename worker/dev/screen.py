"""The one terminal that several processes share."""

import os
import re
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

from worker.core.texts import escaped
from worker.observability.colours import BOLD, CYAN, GREEN, MAGENTA, PLAIN, painted

MOST_WAITING = 1_000_000  # characters that wait for a stopped terminal
LAST_WORDS = 1.0  # seconds to write them at the end
LOOK_EVERY = 0.5  # seconds between checks whether there still is a reader
COLUMNS = {"dev": MAGENTA, "api": CYAN, "worker": GREEN}
WIDTH = max(map(len, COLUMNS)) + 1
COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")


class Screen:
    """Writes lines, each after the name of the process that it comes from.

    A thread writes, so a terminal that is stopped, by Ctrl-S or a reader that does not read, blocks nobody. What is too
    much for it is dropped, and counted. `on_gone` is called in the thread, once, when the reader is gone.
    """

    def __init__(self, stream: TextIO, *, in_colour: bool, on_gone: Callable[[], object]) -> None:
        self._number = stream.fileno()
        self._encoding = stream.encoding
        self.in_colour = in_colour
        self._on_gone = on_gone
        self._outcome = select.poll()
        self._outcome.register(self._number, 0)  # no events: POLLERR and POLLHUP are always reported
        self._waiting: deque[str] = deque()
        self._size = 0
        self._dropped = 0
        self._gone = self._closed = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="screen", daemon=True)
        self._thread.start()

    def line(self, name: str, text: str) -> None:
        """Write a line of a process. Its colours are kept if ours are on; other control characters are escaped."""
        column = f"{name:<{WIDTH}}"
        shown = painted(column, COLUMNS[name]) if self.in_colour else column
        self.write(shown + tamed(text, in_colour=self.in_colour))

    def say(self, text: str) -> None:
        """Write a message of our own, as `dev`."""
        now = time.time()
        moment = time.strftime("%H:%M:%S", time.localtime(now)) + f".{int(now % 1 * 1000):03d}"
        self.line("dev", f"{moment} {painted(escaped(text), BOLD)}")

    def write(self, text: str) -> None:
        """Write a line as it is."""
        with self._news:
            if self._gone:
                return
            if self._size > MOST_WAITING:
                self._dropped += 1
                return
            self._waiting.append(text)
            self._size += len(text)
            self._news.notify()

    def close(self) -> None:
        """Write what still waits, unless that takes too long."""
        with self._news:
            self._closed = True
            self._news.notify()
        self._thread.join(LAST_WORDS)

    def _work(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiting or self._closed, LOOK_EVERY)
                text = self._take()
            if self._closed and not text:
                return
            try:
                self._put(text.encode(self._encoding, "replace"))
            except OSError:  # the pipe's reader has ended, the terminal was closed, the disk is full
                self._give_up()
                return

    def _give_up(self) -> None:
        with self._news:
            self._gone = True
            self._waiting.clear()
        self._on_gone()

    def _take(self) -> str:
        lines = [*self._waiting]
        if self._dropped:
            lines.append(
                f"{'':<{WIDTH}}… {self._dropped} lines were dropped: they came faster than they could be shown"
            )
        self._waiting.clear()
        self._size = self._dropped = 0
        return "".join([f"{line}\n" for line in lines])

    def _put(self, data: bytes) -> None:
        if self._outcome.poll(0):
            raise BrokenPipeError
        while data:
            try:
                data = data[os.write(self._number, data) :]
            except BlockingIOError:  # another program that shares the terminal has made it non-blocking
                select.select([], [self._number], [])


def tamed(text: str, *, in_colour: bool) -> str:
    """A line of a process as it may be shown: with its colours, if any, and no other escape sequences."""
    if text.isprintable():
        return text
    parts = COLOUR.split(text.expandtabs(4))  # every second one is a colour
    if not in_colour:
        return "".join(map(escaped, parts[::2]))
    shown = [part if number % 2 else escaped(part) for number, part in enumerate(parts)]
    return "".join(shown) + (PLAIN if len(parts) > 1 and parts[-2] != PLAIN else "")


class ScreenStream:
    """Lets a log handler write to a screen, as `dev`."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def write(self, text: str) -> None:
        """Write whole lines."""
        for line in text.splitlines():
            self._screen.line("dev", line)

    def flush(self) -> None:
        """Nothing is buffered here."""

    def isatty(self) -> bool:
        """Whether to write in colour."""
        return self._screen.in_colour
