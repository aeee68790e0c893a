"""CPU-heavy functions in processes of their own, which a hard limit or a cancellation really kills.

A child gets its job as JSON and answers with a `Verdict`. What it has to say meanwhile (progress, log lines, the end of
the function) comes as datagrams, which need no lock that a killed child could leave behind. Before it calls the
function it asks whether it still may, so that a job that was cancelled meanwhile never starts.

SIGTERM and SIGINT, which hosts and terminals send to all processes at once, are the worker's business: children take no
notice of them, from their first moment on. They are killed by SIGKILL, and die with their worker.
"""

import asyncio
import contextlib
import contextvars
import itertools
import json
import logging
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from typing import Any

import pebble
import structlog

from worker.core import wire
from worker.core.errors import (
    ErrorInProcess,
    ProcessDied,
    ResultNotSerializable,
    ResultTooLarge,
    Retry,
    SoftTimeLimitExceeded,
)
from worker.core.stopping import STOPS
from worker.execution.attempt import Attempt
from worker.execution.processes.child import GO, LARGEST_DATAGRAM, Order, Verdict, run_order, start_child

logger = structlog.stdlib.get_logger("embarq.processes")

KILLED_WITHIN = 3.0
LOOK_AGAIN = 0.01
LOOK_AT_POOL = 1.0
POOLS_TRIED = 3
ENDS_WITHIN = 0.5  # seconds for all processes to end; it takes a tenth of one or two
STARTED_WITHIN = 30.0  # seconds for a process to start, which is none of the job's time


@dataclass(slots=True)
class Child:
    """What the worker knows of a job in a child. `pid`: once the function may run; `ended`: it has returned."""

    run: Attempt
    inside: contextvars.Context
    pid: int | None = None
    ended: bool = False

    @property
    def is_gone(self) -> bool:
        """Whether the function runs no more, or never will."""
        if self.pid is None or self.ended:
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        return False


class Processes:
    """A pool of child processes, started with the first job that needs one."""

    def __init__(self, count: int, max_result: int) -> None:
        """`max_result`: bytes that a result may take as JSON."""
        self._count = count
        self._max_result = max_result
        self._pool: pebble.ProcessPool | None = None
        self._mailbox: socket.socket | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._children: dict[int, Child] = {}
        self._numbers = itertools.count()
        self.slots = asyncio.Semaphore(count)

    async def run(self, function: Callable[..., object], arguments: dict[str, Any], run: Attempt) -> object:
        """Run a job's function in a child. A cancellation kills it, and comes out when it is dead.

        Raises:
            ProcessDied: the child ended by itself.
            Retry, SoftTimeLimitExceeded, ErrorInProcess: the job raised.
            ResultNotSerializable: the job returned something with no JSON form, or too much of it.
        """
        mailbox, context = self._open_mailbox(), run.context
        order = Order(
            number=next(self._numbers),
            module=function.__module__,
            function=function.__qualname__,
            arguments=wire.dumps(arguments).decode(),
            job_id=context.job_id,
            job=context.job,
            try_number=context.try_number,
            queue=context.queue,
            workflow_id=context.workflow_id,
            enqueued_ms=context.enqueued_ms,
            mailbox=mailbox,
            max_result=self._max_result,
        )
        child = self._children[order.number] = Child(run, contextvars.copy_context())
        run.pause_limits(STARTED_WITHIN)
        try:
            return _unfold(await self._verdict(order, child))
        except pebble.ProcessExpired as error:
            raise ProcessDied(f"the job's process ended with exit code {error.exitcode}") from None
        except asyncio.CancelledError:
            await _dead(child)
            raise
        finally:
            del self._children[order.number]
            run.interrupt = None

    async def _verdict(self, order: Order, child: Child) -> Verdict:
        """Give the order to a child. A pool breaks when all its idle children die, as where memory is short: what has
        not begun in it goes to a new one."""
        for _ in range(POOLS_TRIED):
            with _signals_held_back():  # a new pool starts children
                pool = self._open_pool()
                future = pool.schedule(run_order, args=(order,))
            try:
                verdict = await _answer(pool, asyncio.wrap_future(future))
            except BrokenProcessPool:
                if child.pid is not None:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(child.pid, signal.SIGKILL)
                    break
            else:
                return verdict
        raise ProcessDied("the processes for jobs have died")

    def _open_pool(self) -> pebble.ProcessPool:
        if self._pool is not None and not self._pool.active:
            logger.error("the processes for jobs have died, others are started")
            threading.Thread(target=_end, args=(self._pool,), name="process pool ends", daemon=True).start()
            self._pool = None
        if self._pool is None:
            self._pool = pebble.ProcessPool(self._count, initializer=start_child, context=_Spawn())
        return self._pool

    def _open_mailbox(self) -> str:
        if self._mailbox is None:
            self._folder = tempfile.TemporaryDirectory(prefix="embarq-")
            path = str(Path(self._folder.name) / "mailbox")
            self._mailbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._mailbox.setblocking(False)
            self._mailbox.bind(path)
            asyncio.get_running_loop().add_reader(self._mailbox, self._receive)
        return str(self._mailbox.getsockname())

    def _receive(self) -> None:
        while self._mailbox is not None:
            try:
                data, sender = self._mailbox.recvfrom(2 * LARGEST_DATAGRAM)
            except BlockingIOError:
                return
            letter = json.loads(data)
            child = self._children.get(letter["number"])
            wanted = child is not None and child.run.stop is None
            if letter["kind"] == "ready":
                with contextlib.suppress(OSError):  # the child is gone
                    self._mailbox.sendto(GO if wanted else b"no", sender)
            if child is not None and (wanted or letter["kind"] != "ready"):
                child.inside.run(_heard, child, letter)

    async def close(self) -> None:
        """Kill what still runs; what has not ended half a second later, as where a disk hangs, is left behind."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            ended = asyncio.Event()
            tell = partial(asyncio.get_running_loop().call_soon_threadsafe, ended.set)
            threading.Thread(target=_end, args=(pool, tell), name="process pool ends", daemon=True).start()
            try:
                async with asyncio.timeout(ENDS_WITHIN):
                    await ended.wait()
            except TimeoutError:
                logger.error("the processes for jobs do not end, and are left behind")
        if self._mailbox is not None:
            asyncio.get_running_loop().remove_reader(self._mailbox)
            self._mailbox.close()
            self._mailbox = None
        if self._folder is not None:
            self._folder.cleanup()


async def _answer(pool: pebble.ProcessPool, answer: asyncio.Future[Verdict]) -> Verdict:
    """What a child answers. A pool that breaks does not tell all who wait for it.

    Raises:
        BrokenProcessPool: the pool has broken.
    """
    try:
        while not (await asyncio.wait({answer}, timeout=LOOK_AT_POOL))[0]:
            if not pool.active:
                raise BrokenProcessPool("the pool has ended")
        return answer.result()
    finally:
        answer.cancel()


def _end(pool: pebble.ProcessPool, tell: Callable[[], object] = lambda: None) -> None:
    """Kill a pool's processes and wait for their end."""
    pool.stop()
    pool.join()
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
        tell()


class _KilledProcess(SpawnProcess):
    """A process that is ended by SIGKILL: it takes no notice of the SIGTERM that the pool would send first."""

    def terminate(self) -> None:
        """End it."""
        self.kill()


class _Spawn(SpawnContext):
    """Makes such processes."""

    Process = _KilledProcess


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Processes and threads that are started in the block are born with the worker's signals blocked: a child would
    die of one that comes before it can say what to do with them, and the pool would break. Python's own helper for
    processes is started first, since its start ends with these signals let through."""
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def _dead(child: Child) -> None:
    """Wait until the pool has killed a child: the job may start elsewhere as soon as this one is settled."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(KILLED_WITHIN):
            while not child.is_gone:  # noqa: ASYNC110  # the pool tells nobody of an end that it brings about
                await asyncio.sleep(LOOK_AGAIN)


def _heard(child: Child, letter: dict[str, Any]) -> None:
    """In the worker, within the job's context variables: take in what a child says."""
    run = child.run
    if letter["kind"] == "ready":
        pid = child.pid = letter["pid"]
        run.interrupt = lambda: os.kill(pid, signal.SIGUSR1)
        if run.hard_limit is not None:
            run.limit(run.soft_limit, run.hard_limit)
    elif letter["kind"] == "ended":
        child.ended = True
    elif letter["kind"] == "progress":
        run.context.progress(letter["current"], letter["total"], letter["message"], meta=letter["meta"])
    else:
        logging.getLogger(letter["logger"]).log(letter["level"], "%s", letter["text"])


def _unfold(verdict: Verdict) -> object:
    if verdict.kind == "returned":
        return json.loads(verdict.value)
    if verdict.kind == "retry":
        raise Retry(json.loads(verdict.value))
    if verdict.kind == "not json":
        raise ResultNotSerializable(verdict.message)
    if verdict.kind == "too large":
        raise ResultTooLarge(verdict.message)
    if verdict.kind == "soft limit":
        raise SoftTimeLimitExceeded
    raise ErrorInProcess(verdict.type, verdict.message, verdict.trace, verdict.types, verdict.traits)
