"""Private servers that several processes use: the first one starts a server, the last one has it stopped.

Users are counted by locks on files, which the kernel releases when a process ends, so no crash leaves a wrong count:

- `users` is locked by each user, shared. The guard (`guard.py`) waits until nobody does, and stops the server.
- `guard` is locked by the guard for as long as the server runs. If it is free, nothing runs.
- `lock` is held by the one process that checks whether the server runs, and starts it.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from worker.core.errors import EmbarqError
from worker.dev.locks import ALONE, SHARED, Busy, close_lock, is_free, let_go, open_lock, take_lock, try_lock
from worker.dev.sockets import is_served
from worker.system.private import private_folder, private_opener

logger = structlog.stdlib.get_logger("embarq.servers")

GUARD = Path(__file__).with_name("guard.py")
START_LIMIT = 60.0
STOP_LIMIT = 15.0
LEAVE_LIMIT = 1.0
SPARE = 5.0
TICK = 0.01
AGAIN = 0.3


class EmbeddedError(EmbarqError):
    """A private server cannot be started here; the message says what to do instead."""


@dataclass(frozen=True, slots=True)
class User:
    """The operating system's user that a server runs as."""

    uid: int
    gid: int


class Server(Protocol):
    """A kind of server.

    name: for people. variable: of the environment, for the URL of another one. state: the folder of locks and log.
    stops_at: the signal that stops it gracefully. passing: text in its log that says that it did not start because an
    earlier one has not quite ended.
    """

    name: str
    variable: str
    state: Path
    stops_at: signal.Signals
    passing: str | None

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
        """Create what it needs; the command that starts it, and who is to run it, if not this process's user.

        Called by one process at a time, and never while the server runs.
        """
        ...


@contextmanager
def used(server: Server) -> Iterator[None]:
    """Be one of a server's users in the block. The server is started if it does not run.

    Raises:
        EmbeddedError: it cannot be started.
    """
    with _told(server):
        private_folder(server.state)
        users = open_lock(server.state / "users")
    try:
        with _told(server):
            take_lock(users, SHARED, START_LIMIT + STOP_LIMIT, "to end")
            with _alone(server, 2 * START_LIMIT):
                _ensure(server)
        yield
    finally:
        _leave(server, users)


@contextmanager
def _told(server: Server) -> Iterator[None]:
    """Errors of the operating system as one line that says what to do."""
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
    except Busy as error:
        raise EmbeddedError(
            f"another process has waited too long for the private {server.name} in {server.state} {error}"
        ) from error


@contextmanager
def _alone(server: Server, seconds: float) -> Iterator[None]:
    """Only one process at a time checks for a server and starts it, or leaves."""
    lock = open_lock(server.state / "lock")
    try:
        take_lock(lock, ALONE, seconds, "to start")
        yield
    finally:
        close_lock(lock)


def _ensure(server: Server) -> None:
    """Wait until the server is ready, and start it if it does not run."""
    started = False
    deadline = time.monotonic() + START_LIMIT
    while True:
        guard = open_lock(server.state / "guard")
        try:
            runs = not try_lock(guard, ALONE)
            if not runs and not started:
                _start(server, guard)
                runs = started = True
        finally:
            close_lock(guard)  # the guard has a copy of it
        if runs and server.is_ready:
            return
        has_failed = not runs  # it was started just now, and has ended
        if time.monotonic() > deadline or (has_failed and not _passes(server)):
            raise EmbeddedError(_why_not(server))
        started = started and not has_failed
        time.sleep(AGAIN if has_failed else TICK)


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


def _passes(server: Server) -> bool:
    """Whether the reason for which it did not start goes away by itself."""
    return server.passing is not None and server.passing in (server.state / "log").read_text(errors="replace")


def _why_not(server: Server) -> str:
    log = server.state / "log"
    with suppress(OSError):
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
        words = next((line for line in reversed(lines) if line), "")
        if words:
            return f"the private {server.name} does not start: {words[:300]} (see {log}, or set {server.variable})"
    return f"the private {server.name} does not start: see {log}, or set {server.variable}"


def _end_orphan(server: Server) -> None:
    """End a server whose guard was killed, where the kernel did not (there is no PR_SET_PDEATHSIG on macOS)."""
    deadline = time.monotonic() + STOP_LIMIT
    told = False
    while is_served(server.socket):
        pid = server.pid()
        if pid is not None and pid > 1 and not told:  # 0 and negative ids, from a damaged file, are process groups
            with suppress(ProcessLookupError):
                os.kill(pid, server.stops_at)
            told = True
        if time.monotonic() > deadline:
            raise EmbeddedError(
                f"a {server.name} without a guard listens on {server.socket} and does not stop: end process {pid}"
            )
        time.sleep(TICK)


def _leave(server: Server, users: int) -> None:
    """Release the lock; the last user waits until the server has ended."""
    is_last = False
    with suppress(OSError, Busy), _alone(server, LEAVE_LIMIT):  # busy: another user starts it
        is_last = try_lock(users, ALONE) or not try_lock(users, SHARED)
    let_go(users)
    if is_last:
        with suppress(OSError):
            _wait_for_end(server)


def _wait_for_end(server: Server) -> None:
    now = time.monotonic()
    while time.monotonic() < now + STOP_LIMIT + SPARE:
        if is_free(server.state / "guard", ALONE):
            return
        if time.monotonic() > now + LEAVE_LIMIT and is_free(server.state / "users", SHARED):
            return  # another user has come, so the guard stays
        time.sleep(TICK)
