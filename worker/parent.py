"""Processes that die with their parent, however that ended."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.connection import wait

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """In a process that `multiprocessing` started: end with the process that started it.

    On Linux the kernel sends SIGKILL, to whatever state this process is in, when the thread that started it ends.
    Elsewhere a thread waits for the end of the pipe that the parent holds, which takes an interpreter that runs.
    """
    if not (sys.platform == "linux" and _ask_for_signal()):
        threading.Thread(target=leave_with_parent, name="parent's end", daemon=True).start()


def _ask_for_signal() -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        return False
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:  # it had ended before it was asked for
        os._exit(1)
    return True


def leave_with_parent() -> None:
    """Wait until the parent has ended, and end this process."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
