"""The guard of a private server: it starts the server, and stops it once no user is left, however they ended.

A program of its own that is run by its path and needs the standard library only: it is there within hundredths of a
second, and holds little memory. Each user holds a shared lock on a file; the system takes it away with the process. The
guard asks for the lock alone, and is given it when nobody else holds it.

    guard.py FILE SIGNAL SECONDS UID GID PROGRAM [ARGUMENT...]

FILE is what users lock, SIGNAL ends the server, which is killed SECONDS later. UID and GID are the server's user, -1
for that of the guard.
"""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

PR_SET_PDEATHSIG = 1


def guard(arguments: Sequence[str]) -> int:
    """Run a server for as long as it is used; returns its exit code."""
    users = open(arguments[0], "ab")  # noqa: SIM115  # closed by the end of this process, which is that of its lock
    signum, seconds, uid, gid = int(arguments[1]), float(arguments[2]), int(arguments[3]), int(arguments[4])
    os.umask(0o077)
    server = subprocess.Popen(
        arguments[5:],
        stdin=subprocess.DEVNULL,
        preexec_fn=_ends_with_guard(signum),  # noqa: PLW1509  # there are no threads yet
        user=None if uid < 0 else uid,
        group=None if gid < 0 else gid,
        extra_groups=None if uid < 0 else [],
    )

    def stop_when_unused() -> None:
        fcntl.flock(users, fcntl.LOCK_EX)
        server.send_signal(signum)
        try:
            server.wait(seconds)
        except subprocess.TimeoutExpired:
            server.kill()

    signal.signal(signal.SIGTERM, lambda *_: server.send_signal(signum))
    threading.Thread(target=stop_when_unused, daemon=True).start()
    return server.wait()


def _ends_with_guard(signum: int) -> Callable[[], None] | None:
    """What is done in the process that becomes the server: on Linux, it asks for a signal at its parent's end."""
    if sys.platform != "linux":
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return ask


if __name__ == "__main__":
    if os.fork():  # who starts a server neither waits for its guard nor has it among its children
        os._exit(0)
    sys.exit(guard(sys.argv[1:]))
