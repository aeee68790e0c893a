"""Ends what a killed `embarq dev` leaves behind: a process that outlives it, and does nothing else.

Children of `embarq dev` exit by themselves when its end of their socket closes. Those that do not, because a job holds
the interpreter, and programs that jobs have started, are killed here a moment later. A script without imports of ours,
so that it takes little memory. It reads a line for each child that starts (`+pid`) or has ended (`-pid`) from standard
input. It holds the locks of the private servers meanwhile, so that jobs can still be handed back.
"""

import contextlib
import os
import signal
import sys
import time

LEAVE_WITHIN = 5.0  # seconds; a worker hands its jobs back and ends within 3
LOOK_EVERY = 0.2


def is_there(group: int) -> bool:
    """Whether a process group has a process."""
    try:
        os.killpg(group, 0)
    except OSError:  # ESRCH: there is none; macOS answers EPERM for a group of zombies
        return False
    return True


def main() -> None:
    """Record children until the parent has ended, then end them."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    deadline = time.monotonic() + LEAVE_WITHIN
    while any(map(is_there, groups)) and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY)
    for group in groups:
        with contextlib.suppress(OSError):  # all have ended
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
