"""Locks on files, which the system takes away with the process that holds them."""

import fcntl
import os
import time
from pathlib import Path

from worker.system.private import private_opener

SHARED, ALONE = fcntl.LOCK_SH, fcntl.LOCK_EX
TICK = 0.01


class Busy(Exception):
    """A lock was not given in time."""


# What this process holds open. A child that is forked would hold it too, and after the end of this process alone.
_held: set[int] = set()


def held() -> tuple[int, ...]:
    """The descriptors of this process's locks. A process that is started with them keeps the servers, too."""
    return tuple(_held)


def _close_in_child() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)


def open_lock(path: Path) -> int:
    """The descriptor of a file that is there to be locked.

    Raises:
        OSError: it cannot be made.
    """
    descriptor = private_opener(str(path), os.O_RDWR | os.O_CREAT)
    _held.add(descriptor)
    return descriptor


def close_lock(descriptor: int) -> None:
    """Close it here. Its lock stays where another process was given the descriptor."""
    _held.discard(descriptor)
    os.close(descriptor)


def let_go(descriptor: int) -> None:
    """Give the lock back, whoever else has the descriptor, and close it."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    close_lock(descriptor)


def try_lock(descriptor: int, kind: int) -> bool:
    """Take a lock if nobody stands against it. One that is held already becomes one of this kind, or is lost."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def take_lock(descriptor: int, kind: int, seconds: float, what: str) -> None:
    """Wait for a lock.

    Raises:
        Busy: it was not given in so many seconds; `what` is the message.
    """
    deadline = time.monotonic() + seconds
    while not try_lock(descriptor, kind):
        if time.monotonic() > deadline:
            raise Busy(what)
        time.sleep(TICK)


def is_free(path: Path, kind: int) -> bool:
    """Whether a lock of this kind could be taken now."""
    descriptor = open_lock(path)
    try:
        return try_lock(descriptor, kind)
    finally:
        close_lock(descriptor)
