"""The guard of a private server: it starts the server, and stops it once no user is left, however they ended.

A program of its own that is run by its path and needs the standard library only: it starts within hundredths of a
second, and takes little memory. Each user holds a shared lock on a file (flock); the kernel releases it when the
process ends, however it ends. The guard requests an exclusive lock, and gets it when nobody else holds one.

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

PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>; see prctl(2)


def guard(arguments: Sequence[str]) -> int:
    """Run a server for as long as it is used; returns its exit code."""
    users = open(arguments[0], "ab")  # noqa: SIM115  # closed when this process ends, and its lock released with it
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
    """What is called in the process that becomes the server: on Linux, it requests a signal for its parent's death."""
    if sys.platform != "linux":
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0)
        if os.getppid() != parent:  # it died before the call above: no signal will come
            os._exit(1)

    return ask


if __name__ == "__main__":
    if os.fork():  # the guard becomes a child of init: whoever started it neither waits for it nor reaps it
        os._exit(0)
    sys.exit(guard(sys.argv[1:]))
