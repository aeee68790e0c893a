"""Ends the process of a worker in time, whatever holds it up: `embarq worker` has one, a worker inside another program
has none.

A thread hears the signals and the supervisor, also while the loop is blocked. Where the process has not ended 2.5 s
after the grace period, it kills the processes of jobs, hands back what has not ended, and ends the process at once, so
that a job that does not end overlaps with its next run by the time between two commands. Where even this thread does
not get to run, because a call into C keeps the interpreter's lock, `faulthandler`, which needs no lock, ends the
process half a second later; the leases of its jobs end by themselves then. So do they where Redis does not answer.
"""

import asyncio
import contextlib
import faulthandler
import logging
import multiprocessing
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import structlog
from redis.exceptions import ResponseError

from worker.broker.exchange import Ack
from worker.broker.lease import LeaseKeeper
from worker.core.errors import BrokerUnavailable
from worker.core.stopping import NOW, STOPS, stops_here
from worker.runtime.worker import Worker
from worker.system.parent import Parent

logger = structlog.stdlib.get_logger("embarq.exit")

TICK = 0.1
ANSWER_WITHIN = 0.2  # seconds for Redis to connect, and again to answer
TOLD_WITHIN = 0.1  # seconds for the log
LONGEST_SIGNALS = 1024


class HardExit:
    """Watches over one worker. `supervisor`: its parent, if that keeps workers; it hears what runs during a stop."""

    def __init__(self, worker: Worker, keeper: LeaseKeeper, supervisor: Parent | None = None) -> None:
        """`keeper`: with a short time limit, for this thread alone."""
        self._worker = worker
        self._plan = worker.plan
        self._keeper = keeper
        self._supervisor = supervisor
        self._loop = asyncio.get_running_loop()
        self._signals, self._told = socket.socketpair()
        self._forward_to = -1
        self._armed_for: float | None = None
        self._stops: list[signal.Signals] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="hard exit", daemon=True)

    def start(self) -> None:
        """Take over SIGTERM and SIGINT; called in the loop, in the main thread."""
        for end in (self._signals, self._told):
            end.setblocking(False)
        self._stops = stops_here()
        for signum in self._stops:
            signal.signal(signum, lambda *_: None)  # the thread hears of it, by the byte that is written for it
        self._forward_to = signal.set_wakeup_fd(self._told.fileno(), warn_on_full_buffer=False)
        self._thread.start()

    def end(self) -> None:
        """The worker has ended, and all is closed. A process that was told to stop ends here: it waits for no thread
        that a job has left behind."""
        self._over.set()
        if self._plan.is_on:
            _flush()
            os._exit(0)
        for signum in self._stops:
            signal.signal(signum, signal.SIG_DFL)

    def _work(self) -> None:
        while not self._over.is_set():
            try:
                by = self._hear()
                if self._plan.gone_at != self._armed_for:
                    self._arm()
                if self._supervisor is not None:
                    self._tell(self._supervisor)
                if by:
                    _bounded(partial(logger.info, "told to stop", by=by))
            except Exception:
                logger.exception("hard exit fault")
                time.sleep(TICK)
            if self._plan.has_come(self._plan.leave_at) and not self._over.is_set():
                self._leave()

    def _hear(self) -> str:
        """Wait a moment for requests to stop; who made one."""
        ears: list[socket.socket | Parent] = [self._signals]
        ears += [] if self._supervisor is None else [self._supervisor]
        heard, _, _ = select.select(ears, [], [], TICK)
        if not heard:
            return ""
        by = self._hear_signals() if self._signals in heard else ""
        if self._supervisor is not None and self._supervisor in heard:
            by = self._hear_supervisor(self._supervisor)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._worker.follow_plan)
        return by

    def _hear_signals(self) -> str:
        signums = self._signals.recv(LONGEST_SIGNALS)
        if self._forward_to >= 0:  # the loop's own ear, for handlers of other signals
            with contextlib.suppress(OSError):
                os.write(self._forward_to, signums)
        stops = [signum for signum in signums if signum in STOPS]
        for signum in stops:
            self._plan.signal(signum)
        return " ".join(signal.Signals(signum).name for signum in stops)

    def _hear_supervisor(self, supervisor: Parent) -> str:
        orders = supervisor.orders()
        if orders and NOW not in orders:
            self._plan.stop()
            return "supervisor"
        self._plan.hurry()
        if orders:
            return "supervisor, now"
        self._supervisor = None
        return "end of the supervisor"

    def _tell(self, supervisor: Parent) -> None:
        """It may say on a screen that the worker is there, and what its stop waits for."""
        if self._worker.is_seen:
            supervisor.tell_ready()
        if self._plan.is_on:
            supervisor.tell_running(len(self._worker.runs))

    def _arm(self) -> None:
        """There is an end, or a nearer one: see that it comes, and have a connection ready for it."""
        self._armed_for = self._plan.gone_at
        if self._armed_for is not None:
            faulthandler.dump_traceback_later(max(TICK, self._armed_for - time.monotonic()), exit=True)
            with contextlib.suppress(BrokerUnavailable):
                self._keeper.connect()

    def _leave(self) -> None:
        """End the process now; what it still holds goes back just before."""
        code = 1
        try:
            unsettled = self._worker.unsettled()
            _kill_children()
            _bounded(partial(_tell, unsettled))
            self._keeper.settle(unsettled)
            code = 0
        except (BrokerUnavailable, ResponseError) as error:
            told = "jobs could not be handed back: their leases will end"
            _bounded(partial(logger.error, told, reason=str(error)))
        finally:
            os._exit(code)


def _kill_children() -> None:
    """A job's process is dead before anybody else may have the job."""
    children = multiprocessing.active_children()
    for child in children:
        child.kill()
    for child in children:
        child.join(TICK)


def _tell(unsettled: Sequence[Ack]) -> None:
    logger.error("the process ends itself", jobs=[each.claimed.id for each in unsettled])
    _flush()


def _flush() -> None:
    for handler in logging.getLogger().handlers:
        with contextlib.suppress(OSError, ValueError):
            handler.flush()


def _bounded(tell: Callable[[], object]) -> None:
    """Write to the log, unless somebody who holds it does not get on."""
    telling = threading.Thread(target=tell, daemon=True)
    telling.start()
    telling.join(TOLD_WITHIN)
