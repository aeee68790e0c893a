"""When a worker stops: how requests to do so are counted, and what follows when."""

import signal
import threading
import time
from collections.abc import Callable

# Heroku sends SIGTERM to every process of a dyno, and SIGKILL 30 s later; systemd signals the whole control group. So
# one stop may arrive several times, and the grace period (25 s by default) and GONE_WITHIN together stay below 30 s.
ONE_REQUEST = 2.0
HAND_BACK_WITHIN = 2.5
GONE_WITHIN = 3.0

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # the last one comes when a terminal closes

# What a supervisor writes to its children's standard input.
STOP = b"stop\n"
NOW = b"now\n"


def stops_here() -> list[signal.Signals]:
    """Those that end this process; not SIGHUP where it is ignored, as `nohup` has it."""
    return [each for each in STOPS if each != signal.SIGHUP or signal.getsignal(each) is not signal.SIG_IGN]


class StopPlan:
    """The times of a stop, on the monotonic clock; None before there is one. May be used by several threads.

    From the first request on no job is taken. At `hand_back_at`, after the grace period, running jobs are cancelled and
    handed back. At `leave_at`, 2.5 s later, a process whose worker has not ended hands back what does not end, and ends
    itself (`worker.runtime.hard_exit`). By `gone_at`, 3 s after the grace, it is gone, and a worker in a process that
    is not its own has left. A second request ends the grace period.
    """

    def __init__(self, grace: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`grace`: seconds that running jobs get."""
        self._grace = grace
        self._clock = clock
        self._lock = threading.RLock()  # a signal's handler may come in while it is held
        self._heard: dict[int, float] = {}
        self.hand_back_at: float | None = None

    def signal(self, signum: int) -> None:
        """A signal has come. The same one within 2 s is the same request: hosts signal every process of a group, so it
        comes from them and from a parent, and some send it twice."""
        with self._lock:
            now = self._clock()
            if now - self._heard.get(signum, float("-inf")) < ONE_REQUEST:
                return
            self._heard[signum] = now
            end = now + self._grace if self.hand_back_at is None else min(self.hand_back_at, now)
            self.hand_back_at = end

    def stop(self) -> None:
        """A parent says that it stops, for a reason that may reach this process as a signal as well."""
        with self._lock:
            now = self._clock()
            if self.hand_back_at is None:
                self.hand_back_at = now + self._grace
                self._heard = dict.fromkeys(STOPS, now)

    def hurry(self) -> None:
        """End the grace period now."""
        with self._lock:
            now = self._clock()
            self.hand_back_at = now if self.hand_back_at is None else min(self.hand_back_at, now)

    @property
    def is_on(self) -> bool:
        """Whether there has been a request."""
        return self.hand_back_at is not None

    @property
    def leave_at(self) -> float | None:
        """When jobs that have not ended are left behind."""
        return None if self.hand_back_at is None else self.hand_back_at + HAND_BACK_WITHIN

    @property
    def gone_at(self) -> float | None:
        """When the process of the worker is gone."""
        return None if self.hand_back_at is None else self.hand_back_at + GONE_WITHIN

    def has_come(self, moment: float | None) -> bool:
        """Whether one of its times has come."""
        return moment is not None and self._clock() >= moment
