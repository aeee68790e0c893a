"""`embarq worker --processes N`: a small parent that keeps N workers running, and stops them.

It speaks to each child through a socket: a signal that a host sends to all processes would reach a child twice if it
were passed on. The end of the socket tells a child that its parent is gone; it hands back and leaves then. A supervisor
may be a child like that itself.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from worker.core.stopping import NOW, STOP, StopPlan, stops_here
from worker.system.parent import READY, RUNNING, Parent

logger = structlog.stdlib.get_logger("embarq.supervisor")

TICK = 0.1
SHORTEST_LIFE = 5.0
LONGEST_PAUSE = 30.0
LONGEST_WORD = 16_384
WRITTEN_WRONGLY = 2  # exit code
KILLED_AFTER = 1.0  # a child ends itself; one that has not so long after it should have is killed


@dataclass(slots=True)
class Slot:
    """A place for one child. `line`: the socket to it. `failures` counts ends in a row that came soon after the start.
    `told`: orders that it has; `killed`: whether it was; `is_done`: whether none is to follow; `running`: how many jobs
    it says that it waits for; `example`: what it says once it is ready, something to try or nothing."""

    number: int
    process: "subprocess.Popen[bytes] | None" = None
    line: socket.socket | None = None
    started: float = 0.0
    failures: int = 0
    start_at: float = 0.0
    told: set[bytes] = field(default_factory=set)
    killed: bool = False
    is_done: bool = False
    running: int | None = None
    example: bytes | None = None

    def start(
        self,
        command: Sequence[str],
        *,
        output: int | None = None,
        environment: Mapping[str, str] | None = None,
        files: Sequence[int] = (),
        apart: bool = True,
    ) -> None:
        """Start a child, in a session of its own: Ctrl-C reaches the parent alone.

        `output`: where it writes, our own by default. `files`: open ones that it is to have. `apart`: False for a
        child in our own group, which is right where we have a session of our own already: who kills the group has all.
        """
        self.line, ear = socket.socketpair()
        self.line.setblocking(False)
        own = [*command, "--supervisor", str(ear.fileno())]
        try:
            self.process = subprocess.Popen(
                own,
                start_new_session=apart,
                pass_fds=(ear.fileno(), *files),
                stdin=None if output is None else subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
            )
        except BaseException:
            self.line.close()
            raise
        finally:
            ear.close()
        self.started = time.monotonic()
        self.told, self.killed, self.running, self.example = set(), False, None, None

    def tell(self, order: bytes) -> None:
        """Give the child an order, once."""
        if self.line is not None and self.process is not None and order not in self.told:
            self.told.add(order)
            with contextlib.suppress(OSError):  # it has just ended
                self.line.send(order)

    def hear(self) -> None:
        """Take in what the child says."""
        with contextlib.suppress(OSError):  # nothing, or it has just ended
            for word in self.line.recv(LONGEST_WORD).splitlines() if self.line is not None else ():
                if word.startswith(RUNNING):
                    self.running = int(word.removeprefix(RUNNING))
                elif word.startswith(READY):
                    self.example = word.removeprefix(READY)

    def stop(self, plan: StopPlan) -> None:
        """Do to the child what the plan of a stop says; called again and again until the child has ended."""
        self.tell(STOP)
        if plan.has_come(plan.hand_back_at):
            self.tell(NOW)
        if plan.gone_at is not None and plan.has_come(plan.gone_at + KILLED_AFTER):
            self.kill()

    def kill(self) -> None:
        """Kill the child, once."""
        if self.process is not None and not self.killed:
            logger.error("child is killed: it does not end", child=self.number, pid=self.process.pid)
            self.killed = True
            self.process.kill()

    def end(self) -> None:
        """The child has ended."""
        if self.line is not None:
            self.line.close()
        self.process = self.line = None


@dataclass(slots=True)
class Supervisor:
    """Runs `command` as `count` child processes until it is told to stop.

    A child that dies, or that ended itself to be recycled, is started again, with `--again`; one that dies soon after
    its start, after a pause that doubles. A first SIGTERM or SIGINT gives the children's jobs their grace; after a
    second one, or the grace, they are handed back, and 4 s later no child is left. In a `burst`, a child that ended
    well is not started again, and the last one ends the supervisor. Where the first children say that a setting or a
    job is wrong, it ends with their exit code: starting them again would not help.
    """

    command: Sequence[str]
    count: int
    plan: StopPlan
    parent: Parent | None = None
    burst: bool = False
    slots: list[Slot] = field(default_factory=list)
    code: int = 0
    has_worked: bool = False

    def run(self) -> int:
        """Work until a signal; then until every child has ended. The exit code."""
        for signum in stops_here():
            signal.signal(signum, lambda signum, _: self.plan.signal(signum))
        self.slots = [Slot(number) for number in range(self.count)]
        while not self.plan.is_on or any(slot.process is not None for slot in self.slots):
            for slot in self.slots:
                self._tend(slot)
            if all(slot.is_done for slot in self.slots):
                self.plan.hurry()
            self._wait()
        return self.code

    def _wait(self) -> None:
        """Wait a moment, or for the parent."""
        if self.parent is None:
            time.sleep(TICK)
            return
        if self.plan.is_on:
            said = [slot.running for slot in self.slots if slot.process is not None]
            known = [each for each in said if each is not None]
            if len(known) == len(said):  # one that holds the interpreter says nothing, and is waited for
                self.parent.tell_running(sum(known))
        elif all(slot.example is not None for slot in self.slots):
            self.parent.tell_ready()
        if select.select([self.parent], [], [], TICK)[0]:
            orders = self.parent.orders()
            if orders and NOW not in orders:
                self.plan.stop()
            else:
                self.plan.hurry()
            self.parent = self.parent if orders else None

    def _tend(self, slot: Slot) -> None:
        if slot.process is not None and slot.process.poll() is not None:
            self._note_end(slot, slot.process.returncode)
        slot.hear()
        if self.plan.is_on:
            slot.stop(self.plan)
        elif slot.process is None and not slot.is_done and time.monotonic() >= slot.start_at:
            command = [*self.command, "--again"] if slot.started else self.command
            slot.start(command, apart=self.parent is None)
            logger.info("child started", child=slot.number, pid=slot.process.pid if slot.process else None)

    def _note_end(self, slot: Slot, code: int) -> None:
        lived = time.monotonic() - slot.started
        slot.failures = slot.failures + 1 if code != 0 and lived < SHORTEST_LIFE else 0
        pause = min(LONGEST_PAUSE, 2.0 ** (slot.failures - 1)) if slot.failures else 0.0
        slot.start_at = time.monotonic() + pause
        slot.is_done = self.burst and code == 0
        self.has_worked = self.has_worked or code == 0 or lived >= SHORTEST_LIFE
        if code == WRITTEN_WRONGLY and not self.has_worked:
            self.code = code
            self.plan.hurry()
        log = logger.info if code == 0 else logger.warning
        log("child ended", child=slot.number, code=code, lived=round(lived, 1), restart_in=pause)
        slot.end()


def supervise(
    arguments: Sequence[str], count: int, grace: float, parent: Parent | None = None, *, burst: bool = False
) -> int:
    """Run `embarq worker` with these arguments as `count` processes. `grace`: seconds that jobs get at a stop."""
    command = [sys.executable, "-m", "worker.cli", "worker", *arguments]
    logger.info("supervisor starts", processes=count, pid=os.getpid())
    return Supervisor(command, count, StopPlan(grace), parent, burst).run()
