"""Locks on files (flock), which the kernel releases when the process that holds them ends."""

import fcntl
import os
import time
from pathlib import Path

from worker.system.private import private_opener

SHARED, ALONE = fcntl.LOCK_SH, fcntl.LOCK_EX
TICK = 0.01


class Busy(Exception):
    """A lock was not free in time."""


# The descriptors that this process holds. A forked child would share the locks, and keep them when this process ends.
_held: set[int] = set()


def held() -> tuple[int, ...]:
    """The descriptors of this process's locks. A process that inherits them keeps the servers running, too."""
    return tuple(_held)


def _close_in_child() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)


def open_lock(path: Path) -> int:
    """The descriptor of a lock file, which is created where it is missing.

    Raises:
        OSError: it cannot be created.
    """
    descriptor = private_opener(str(path), os.O_RDWR | os.O_CREAT)
    _held.add(descriptor)
    return descriptor


def close_lock(descriptor: int) -> None:
    """Close it here. The lock stays where another process has inherited the descriptor."""
    _held.discard(descriptor)
    os.close(descriptor)


def let_go(descriptor: int) -> None:
    """Release the lock, even if other processes have the descriptor, and close it."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    close_lock(descriptor)


def try_lock(descriptor: int, kind: int) -> bool:
    """Take a lock if no other process prevents it. A lock that is held already is converted to this kind, or is lost:
    flock does not convert atomically."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def take_lock(descriptor: int, kind: int, seconds: float, what: str) -> None:
    """Wait for a lock.

    Raises:
        Busy: it was not free within `seconds`; `what` is the message.
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
