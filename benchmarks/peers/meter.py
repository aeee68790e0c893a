"""What the measured jobs do: count in their worker's process, or note how late they start."""

import itertools
import os
import threading
import time
from pathlib import Path

FOLDER = Path(os.environ.get("BENCH_FOLDER", "."))
TARGET = int(os.environ.get("BENCH_COUNT", "0"))

_counter = itertools.count(1)
_lock = threading.Lock()


def tick() -> None:
    """Count one job; the times of the first and of the last are written to files."""
    number = next(_counter)
    if number == 1:
        (FOLDER / "first").write_text(str(time.time()))
    if number == TARGET:
        (FOLDER / "last.part").write_text(str(time.time()))
        (FOLDER / "last.part").rename(FOLDER / "last")


def called(total: int) -> None:
    """Note that a chord's callback has run, and what it got."""
    (FOLDER / "called.part").write_text(f"{time.time()} {total}")
    (FOLDER / "called.part").rename(FOLDER / "called")


def stamp(due: float) -> None:
    """Note by how many milliseconds the job starts after it was due."""
    late = 1000 * (time.time() - due)
    with _lock, (FOLDER / "stamps").open("a") as file:
        file.write(f"{late}\n")
