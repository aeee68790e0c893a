"""`embarq worker --processes N`: a small parent that keeps N workers running, and passes signals on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

logger = structlog.stdlib.get_logger("embarq.supervisor")

TICK = 0.1
SHORTEST_LIFE = 5.0
LONGEST_PAUSE = 30.0


@dataclass(slots=True)
class Slot:
    """A place for one child. `failures` counts ends in a row that came soon after the start."""

    number: int
    process: "subprocess.Popen[bytes] | None" = None
    started: float = 0.0
    failures: int = 0
    start_at: float = 0.0


@dataclass(slots=True)
class Supervisor:
    """Runs `command` as `count` child processes until it is told to stop.

    A child that dies, or that ended itself to be recycled, is started again; one that dies soon after its start, after
    a pause that doubles. SIGTERM and SIGINT are passed on; a second one too, and children hand their jobs back then.
    """

    command: Sequence[str]
    count: int
    slots: list[Slot] = field(default_factory=list)
    stopping: bool = False

    def run(self) -> int:
        """Work until a signal; then until every child has ended."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._pass_on)
        self.slots = [Slot(number) for number in range(self.count)]
        while not self.stopping or any(slot.process is not None for slot in self.slots):
            for slot in self.slots:
                self._tend(slot)
            time.sleep(TICK)
        return 0

    def _tend(self, slot: Slot) -> None:
        if slot.process is not None and slot.process.poll() is not None:
            self._note_end(slot, slot.process.returncode)
        if slot.process is None and not self.stopping and time.monotonic() >= slot.start_at:
            # A session of its own: Ctrl-C reaches the parent alone, which passes it on.
            slot.process = subprocess.Popen(self.command, start_new_session=True)
            slot.started = time.monotonic()
            logger.info("child started", child=slot.number, pid=slot.process.pid)
            if self.stopping:  # the signal came while the child was being made
                slot.process.terminate()

    def _note_end(self, slot: Slot, code: int) -> None:
        lived = time.monotonic() - slot.started
        slot.failures = slot.failures + 1 if code != 0 and lived < SHORTEST_LIFE else 0
        pause = min(LONGEST_PAUSE, 2.0 ** (slot.failures - 1)) if slot.failures else 0.0
        slot.start_at = time.monotonic() + pause
        log = logger.info if code == 0 else logger.warning
        log("child ended", child=slot.number, code=code, lived=round(lived, 1), restart_in=pause)
        slot.process = None

    def _pass_on(self, signum: int, _frame: object) -> None:
        self.stopping = True
        for slot in self.slots:
            if slot.process is not None and slot.process.poll() is None:
                slot.process.send_signal(signum)


def supervise(arguments: Sequence[str], count: int) -> int:
    """Run `embarq worker` with these arguments as `count` processes."""
    command = [sys.executable, "-m", "worker.cli", "worker", *arguments]
    logger.info("supervisor starts", processes=count, pid=os.getpid())
    return Supervisor(command, count).run()
