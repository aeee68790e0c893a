"""Parents: their messages to children, and processes that die with them, however they end."""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import wait

PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>; see prctl(2)
LONGEST_ORDER = 1024
RUNNING, READY = b"running ", b"ready "


class Parent:
    """The process that started this one, at the other end of a socket. It sends `STOP` and `NOW` of
    `worker.core.stopping`; the kernel closes the socket when the parent ends, however it does."""

    def __init__(self, number: int) -> None:
        """`number`: the socket's descriptor, from the option `--supervisor`."""
        self._socket = socket.socket(fileno=number)
        self._socket.set_inheritable(False)
        self._told: int | None = None
        self._is_ready = False

    def fileno(self) -> int:
        """For `select`."""
        return self._socket.fileno()

    def orders(self) -> bytes:
        """What it sends next; empty when it has ended."""
        try:
            return self._socket.recv(LONGEST_ORDER)
        except ConnectionError:  # it ended with messages of ours unread
            return b""

    def tell_running(self, jobs: int) -> None:
        """Report how many jobs still run, once for each number; never waits."""
        if jobs != self._told:
            self._told = jobs
            self._tell(b"%b%d\n" % (RUNNING, jobs))

    def tell_ready(self, example: bytes = b"") -> None:
        """Report, once, that this process is ready. `example`: a request to try, in one short line."""
        if not self._is_ready:
            self._is_ready = True
            self._tell(b"%b%b\n" % (READY, example))

    def _tell(self, word: bytes) -> None:
        with contextlib.suppress(OSError):
            self._socket.send(word, socket.MSG_DONTWAIT)


def parent_of(number: int | None) -> Parent | None:
    """The parent at the other end of this socket, if there is one."""
    return None if number is None else Parent(number)


def die_with_parent() -> None:
    """In a process that `multiprocessing` started: end with the process that started it.

    On Linux the kernel sends SIGKILL, whatever this process is doing, when the thread that started it ends. Elsewhere a
    thread waits for the end of the pipe that the parent holds, which needs the interpreter to run.
    """
    if not (sys.platform == "linux" and _ask_for_signal()):
        threading.Thread(target=leave_with_parent, name="parent's end", daemon=True).start()


def _ask_for_signal() -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        return False
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:  # it ended before the call above: no signal will come
        os._exit(1)
    return True


def ends_with_us() -> Callable[[], None] | None:
    """For `preexec_fn` of `subprocess`: requests SIGKILL for the end of the thread that starts the program, which must
    wait for it. Linux only."""
    if sys.platform != "linux":
        return None
    libc, us = ctypes.CDLL(None), os.getpid()  # before the fork: after it, a lock that another thread held stays locked

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != us:
            os._exit(1)

    return ask


def leave_with_parent() -> None:
    """Wait until the parent has ended, and end this process."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
