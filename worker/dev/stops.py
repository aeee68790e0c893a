"""The requests to stop `embarq dev`, and what follows them."""

import asyncio
import signal
import time
from enum import IntEnum

from worker.core.stopping import ONE_REQUEST, StopPlan, stops_here

ONE_PRESS = 0.05  # seconds in which SIGINT counts once: it comes from the terminal, and from a parent that passes it on


class Stage(IntEnum):
    """What a request leads to; the next one leads to the next."""

    SERVING = 0
    GRACE = 1
    HAND_BACK = 2
    KILL = 3


class Stops:
    """The requests. `plan`: the worker's stop. `news` is set with each."""

    def __init__(self, grace: float) -> None:
        self.stage = Stage.SERVING
        self.plan = StopPlan(grace)
        self.news = asyncio.Event()
        self._heard: dict[int, float] = {}

    def listen(self) -> None:
        """Handle the signals from now on."""
        loop = asyncio.get_running_loop()
        for signum in stops_here():
            loop.add_signal_handler(signum, self.hear, signum)

    def hear(self, signum: int) -> None:
        """A signal has come. What comes twice at once is one request: parents pass on signals that all processes get
        anyway, some as SIGTERM. Only Ctrl-C kills."""
        now, earlier = time.monotonic(), self._heard.get(signum, float("-inf"))
        recent = now - (earlier if signum == signal.SIGINT else max(self._heard.values(), default=earlier))
        self._heard[signum] = now
        if signum == signal.SIGHUP:
            self.nobody_looks()
        elif signum == signal.SIGINT and recent > ONE_PRESS:
            self._reach(Stage(min(self.stage + 1, Stage.KILL)))
        elif signum == signal.SIGTERM and recent > ONE_REQUEST:
            self._reach(max(self.stage, Stage(min(self.stage + 1, Stage.HAND_BACK))))

    def nobody_looks(self) -> None:
        """The terminal is closed, or the reader of our output has ended: nobody would see what a stop waits for."""
        self._reach(max(self.stage, Stage.HAND_BACK))

    def stop(self) -> None:
        """Stop for a reason of our own, as by a first request."""
        self._reach(max(self.stage, Stage.GRACE))

    def _reach(self, stage: Stage) -> None:
        self.stage = stage
        if stage >= Stage.GRACE:
            self.plan.stop()
        if stage >= Stage.HAND_BACK:
            self.plan.hurry()
        self.news.set()
