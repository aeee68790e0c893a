"""The terminal that several processes share."""

import contextlib
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from worker.dev import screen as screens
from worker.dev.screen import Screen, tamed

PATIENCE = 15.0


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """The end to read, and the end to write."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        yield reading, stream
    with contextlib.suppress(OSError):  # the test did
        os.close(reading)


def opened(stream: TextIO, gone: threading.Event | None = None, *, in_colour: bool = False) -> Screen:
    return Screen(stream, in_colour=in_colour, on_gone=(gone or threading.Event()).set)


def test_lines_stand_behind_the_name_of_their_process(pipe: tuple[int, TextIO]) -> None:
    screen = opened(pipe[1])
    screen.line("api", "one")
    screen.line("worker", "two")
    screen.close()
    assert os.read(pipe[0], 1000) == b"api    one\nworker two\n"


def test_terminal_that_stands_still_holds_nobody_up_and_hears_what_it_missed(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screens, "MOST_WAITING", 300_000)
    screen, began = opened(pipe[1]), time.monotonic()
    for _ in range(20_000):
        screen.line("worker", "x" * 100)
    assert time.monotonic() - began < PATIENCE
    seen, shown, dropped = b"", 0, 0
    deadline = time.monotonic() + PATIENCE
    while shown + dropped < 20_000:
        assert time.monotonic() < deadline, (shown, dropped)
        seen += os.read(pipe[0], 65536)
        shown = seen.count(b"x\n")
        dropped = sum(map(int, re.findall(rb"(\d+) lines were dropped", seen)))
    assert shown + dropped == 20_000
    assert dropped > 10_000
    screen.line("worker", "the next")
    screen.close()
    assert b"the next" in os.read(pipe[0], 65536)


def test_end_does_not_wait_for_a_terminal_that_stands_still(pipe: tuple[int, TextIO]) -> None:
    screen, began = opened(pipe[1]), time.monotonic()
    for _ in range(5000):
        screen.line("worker", "x" * 100)
    screen.close()
    assert time.monotonic() - began < PATIENCE


@pytest.mark.parametrize("writes", [True, False])
def test_reader_that_leaves_is_noticed(pipe: tuple[int, TextIO], writes: bool) -> None:
    gone = threading.Event()
    screen = opened(pipe[1], gone)
    os.close(pipe[0])
    if writes:
        screen.line("worker", "hello")
    assert gone.wait(PATIENCE)
    screen.line("worker", "nobody hears")
    screen.close()


def test_file_that_is_full_or_closed_is_no_error(tmp_path: Path) -> None:
    gone = threading.Event()
    with open("/dev/full", "w") as stream:  # no file of ours
        screen = opened(stream, gone)
        screen.line("worker", "hello")
        assert gone.wait(PATIENCE)
        screen.close()


@pytest.mark.parametrize(
    ("text", "coloured", "plain"),
    [
        ("plain", "plain", "plain"),
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m", "red"),
        ("\x1b[31mred", "\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2Jgone\x07", r"\x1b[2Jgone\x07", r"\x1b[2Jgone\x07"),
        ("a\tb", "a   b", "a   b"),
        ("\u202eleft", r"\u202eleft", r"\u202eleft"),
    ],
)
def test_colours_are_all_that_a_process_may_do_to_a_terminal(text: str, coloured: str, plain: str) -> None:
    assert tamed(text, in_colour=True) == coloured
    assert tamed(text, in_colour=False) == plain
