"""Ends what a killed `embarq dev` leaves behind: a process that outlives it, and does nothing else.

Children of `embarq dev` leave by themselves when its end of their socket closes. What does not, because a job holds the
interpreter, or was started by a job as a program of its own, is killed here a moment later. A script without imports of
ours, so that it takes little memory. On standard input is a line for each child that starts (`+pid`) or has ended
(`-pid`). It holds what counts as a use of the private servers, so that jobs can still be handed back.
"""

import contextlib
import os
import signal
import sys
import time

LEAVE_WITHIN = 5.0  # seconds; a worker hands back and is gone within 3
LOOK_EVERY = 0.2


def is_there(group: int) -> bool:
    """Whether a process group has a process."""
    try:
        os.killpg(group, 0)
    except OSError:  # there is none; macOS says that it is forbidden where all have ended
        return False
    return True


def main() -> None:
    """Note children until the parent has ended, then see them out."""
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
