"""Private servers that several processes use: the first one starts a server, the last one has it stopped.

Users are counted by locks on files, which the system takes away with a process, so no crash leaves a false count:

- `users` is locked by each user, shared. The guard (`guard.py`) waits until nobody does, and stops the server.
- `guard` is locked by the guard for as long as the server runs. Where it is free, nothing runs.
- `lock` is for one at a time, who looks whether the server runs, and starts it.
"""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from worker.errors import EmbarqError
from worker.private import private_folder, private_opener

logger = structlog.stdlib.get_logger("embarq.servers")

GUARD = Path(__file__).with_name("guard.py")
START_LIMIT = 60.0
STOP_LIMIT = 15.0
LEAVE_LIMIT = 1.0
SPARE = 5.0
TICK = 0.01


class EmbeddedError(EmbarqError):
    """A private server cannot be started here; the message says what to do instead."""


@dataclass(frozen=True, slots=True)
class User:
    """Of the system: who a server runs as."""

    uid: int
    gid: int


class Server(Protocol):
    """A kind of server, as far as its users are concerned.

    name: for people. variable: of the environment, with the URL of another one. state: the folder of locks and log.
    stops_at: the signal that ends it in order.
    """

    name: str
    variable: str
    state: Path
    stops_at: signal.Signals

    @property
    def socket(self) -> Path:
        """What it listens on."""
        ...

    @property
    def is_ready(self) -> bool:
        """Whether it answers, and has loaded its data."""
        ...

    def pid(self) -> int | None:
        """The process that serves the socket."""
        ...

    def prepare(self) -> tuple[list[str], User | None]:
        """Make what it needs; the command that starts it, and who is to run it, if not this process's user.

        Called by one process at a time, and never while the server runs.
        """
        ...


@contextmanager
def used(server: Server) -> Iterator[None]:
    """Be one of a server's users in the block. It is started if it does not run.

    Raises:
        EmbeddedError: it cannot be started.
    """
    with _told(server):
        private_folder(server.state)
        users = _open(server.state / "users")
    try:
        with _told(server):
            _take(users, fcntl.LOCK_SH, START_LIMIT + STOP_LIMIT, "to end")
            with _alone(server, 2 * START_LIMIT):
                _ensure(server)
        yield
    finally:
        _leave(server, users)


@contextmanager
def _told(server: Server) -> Iterator[None]:
    """What the system refuses, as one line that says what to do."""
    try:
        yield
    except OSError as error:
        where = error.filename or server.state
        raise EmbeddedError(
            f"{server.name} cannot keep its data: {where}: {error.strerror or error}; "
            f"set EMBARQ_DATA_DIR to a folder of your own, or {server.variable}"
        ) from error
    except subprocess.SubprocessError as error:
        raise EmbeddedError(f"the private {server.name} does not start: {error}; set {server.variable}") from error
    except _Busy as error:
        raise EmbeddedError(
            f"another process has waited too long for the private {server.name} in {server.state} {error}"
        ) from error


class _Busy(Exception):
    """A lock was not given in time."""


# What this process holds open. A child that is forked is no user of its own, and must not look like one.
_held: set[int] = set()


def held() -> tuple[int, ...]:
    """The descriptors of this process's locks. A process that is started with them keeps the servers, too."""
    return tuple(_held)


def _close_in_child() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)


def _open(path: Path) -> int:
    descriptor = private_opener(str(path), os.O_RDWR | os.O_CREAT)
    _held.add(descriptor)
    return descriptor


def _close(descriptor: int) -> None:
    _held.discard(descriptor)
    os.close(descriptor)


def _try(descriptor: int, kind: int) -> bool:
    """Take a lock if nobody stands against it. One that is held already becomes one of this kind, or is lost."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _take(descriptor: int, kind: int, seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not _try(descriptor, kind):
        if time.monotonic() > deadline:
            raise _Busy(what)
        time.sleep(TICK)


@contextmanager
def _alone(server: Server, seconds: float) -> Iterator[None]:
    """One process at a time looks for a server and starts it, or leaves."""
    lock = _open(server.state / "lock")
    try:
        _take(lock, fcntl.LOCK_EX, seconds, "to start")
        yield
    finally:
        _close(lock)


def _ensure(server: Server) -> None:
    """Wait until the server is ready, and start it if it does not run."""
    started = False
    deadline = time.monotonic() + START_LIMIT
    while True:
        guard = _open(server.state / "guard")
        try:
            runs = not _try(guard, fcntl.LOCK_EX)
            if not runs and not started:
                _start(server, guard)
                runs = started = True
        finally:
            _close(guard)  # the guard has a copy of it
        if runs and server.is_ready:
            return
        if not runs or time.monotonic() > deadline:
            raise EmbeddedError(_why_not(server))
        time.sleep(TICK)


def _start(server: Server, guard: int) -> None:
    _end_orphan(server)
    command, user = server.prepare()
    log = server.state / "log"
    with suppress(FileNotFoundError):
        log.replace(server.state / "log.old")
    uid, gid = (user.uid, user.gid) if user else (-1, -1)
    options = [str(server.state / "users"), int(server.stops_at), STOP_LIMIT, uid, gid]
    with open(log, "ab", opener=private_opener) as output:
        subprocess.run(
            [sys.executable, "-I", "-S", str(GUARD), *map(str, options), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            pass_fds=[guard],  # with its lock
            start_new_session=True,
            check=True,
            timeout=START_LIMIT,
        )


def _why_not(server: Server) -> str:
    log = server.state / "log"
    with suppress(OSError):
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
        words = next((line for line in reversed(lines) if line), "")
        if words:
            return f"the private {server.name} does not start: {words[:300]} (see {log}, or set {server.variable})"
    return f"the private {server.name} does not start: see {log}, or set {server.variable}"


def _end_orphan(server: Server) -> None:
    """End a server whose guard was killed, where the system did not."""
    deadline = time.monotonic() + STOP_LIMIT
    told = False
    while _is_served(server.socket):
        pid = server.pid()
        if pid is not None and not told:
            with suppress(ProcessLookupError):
                os.kill(pid, server.stops_at)
            told = True
        if time.monotonic() > deadline:
            raise EmbeddedError(
                f"a {server.name} that nothing guards listens on {server.socket} and does not end: end process {pid}"
            )
        time.sleep(TICK)


def _is_served(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            probe.connect(str(path))
    except OSError:
        return False
    return True


def _leave(server: Server, users: int) -> None:
    """Let go; the last user waits until the server has ended."""
    is_last = False
    with suppress(OSError, _Busy), _alone(server, LEAVE_LIMIT):  # busy: somebody starts it, who is a user
        is_last = _try(users, fcntl.LOCK_EX) or not _try(users, fcntl.LOCK_SH)
    fcntl.flock(users, fcntl.LOCK_UN)
    _close(users)
    if is_last:
        with suppress(OSError):
            _wait_for_end(server)


def _wait_for_end(server: Server) -> None:
    now = time.monotonic()
    while time.monotonic() < now + STOP_LIMIT + SPARE:
        if _is_free(server.state / "guard", fcntl.LOCK_EX):
            return
        if time.monotonic() > now + LEAVE_LIMIT and _is_free(server.state / "users", fcntl.LOCK_SH):
            return  # somebody else has come, so the guard stays
        time.sleep(TICK)


def _is_free(path: Path, kind: int) -> bool:
    descriptor = _open(path)
    try:
        return _try(descriptor, kind)
    finally:
        _close(descriptor)
