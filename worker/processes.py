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
import importlib
import itertools
import json
import logging
import os
import select
import signal
import socket
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from typing import Any, Literal

import pebble

from worker import wire
from worker.context import Context, Stopping, enter_context
from worker.errors import (
    ErrorInProcess,
    NotSerializable,
    ProcessDied,
    ResultNotSerializable,
    Retry,
    SoftTimeLimitExceeded,
    type_name,
)
from worker.parent import die_with_parent
from worker.run import Run
from worker.threads import JobThread

LARGEST_DATAGRAM = 100_000
GO = b"go"
KILLED_WITHIN = 3.0
LOOK_AGAIN = 0.01
WORKERS_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Order:
    """A job for a child. `function` is the job's place: module and name; `arguments` are JSON."""

    number: int
    module: str
    function: str
    arguments: str
    job_id: str
    job: str
    try_number: int
    queue: str
    mailbox: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a job in a child ended. `value` is the result as JSON, or the delay of a retry."""

    kind: Literal["returned", "not json", "retry", "soft limit", "raised"]
    value: str = "null"
    type: str = ""
    message: str = ""
    trace: str = ""
    types: tuple[str, ...] = ()


@dataclass(slots=True)
class Child:
    """What the worker knows of a job in a child. `pid`: once the function may run; `ended`: it has returned."""

    run: Run
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

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool: pebble.ProcessPool | None = None
        self._mailbox: socket.socket | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._children: dict[int, Child] = {}
        self._numbers = itertools.count()
        self.slots = asyncio.Semaphore(count)

    async def run(self, function: Callable[..., object], arguments: dict[str, Any], run: Run) -> object:
        """Run a job's function in a child. A cancellation kills it, and comes out when it is dead.

        Raises:
            ProcessDied: the child ended by itself.
            Retry, SoftTimeLimitExceeded, ErrorInProcess: the job raised.
            ResultNotSerializable: the job returned something with no JSON form.
        """
        pool, mailbox = self._open()
        context = run.context
        order = Order(
            number=next(self._numbers),
            module=function.__module__,
            function=function.__qualname__,
            arguments=wire.dumps(arguments).decode(),
            job_id=context.job_id,
            job=context.job,
            try_number=context.try_number,
            queue=context.queue,
            mailbox=mailbox,
        )
        child = self._children[order.number] = Child(run, contextvars.copy_context())
        with _signals_held_back():  # the first job starts the pool
            future = pool.schedule(run_order, args=(order,))
        try:
            verdict: Verdict = await asyncio.wrap_future(future)
        except pebble.ProcessExpired as error:
            raise ProcessDied(f"the job's process ended with exit code {error.exitcode}") from None
        except asyncio.CancelledError:
            await _dead(child)
            raise
        finally:
            del self._children[order.number]
            run.interrupt = None
        return _unfold(verdict)

    def _open(self) -> tuple[pebble.ProcessPool, str]:
        if self._pool is None:
            self._folder = tempfile.TemporaryDirectory(prefix="embarq-")
            path = str(Path(self._folder.name) / "mailbox")
            self._mailbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._mailbox.setblocking(False)
            self._mailbox.bind(path)
            asyncio.get_running_loop().add_reader(self._mailbox, self._receive)
            self._pool = pebble.ProcessPool(self._count, initializer=_start_child, context=_Spawn())
        assert self._mailbox is not None  # noqa: S101  # opened with the pool
        return self._pool, self._mailbox.getsockname()

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
        """Kill what still runs."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            pool.stop()
            await JobThread("process pool ends", pool.join, lambda: None).run()
        if self._mailbox is not None:
            asyncio.get_running_loop().remove_reader(self._mailbox)
            self._mailbox.close()
            self._mailbox = None
        if self._folder is not None:
            self._folder.cleanup()


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
    die of one that comes before it can say what to do with them, and the pool would break."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WORKERS_SIGNALS)
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
            run.limit(run.soft_limit, run.hard_limit)  # starting the process took none of the job's time
    elif letter["kind"] == "ended":
        child.ended = True
    elif letter["kind"] == "progress":
        run.context.progress(letter["current"], letter["total"], letter["message"])
    else:
        logging.getLogger(letter["logger"]).log(letter["level"], "%s", letter["text"])


def _unfold(verdict: Verdict) -> object:
    if verdict.kind == "returned":
        return json.loads(verdict.value)
    if verdict.kind == "retry":
        raise Retry(json.loads(verdict.value))
    if verdict.kind == "not json":
        raise ResultNotSerializable(verdict.message)
    if verdict.kind == "soft limit":
        raise SoftTimeLimitExceeded
    raise ErrorInProcess(verdict.type, verdict.message, verdict.trace, verdict.types)


def _start_child() -> None:
    """Die with the worker, and leave its signals to it. By a handler: what is ignored is ignored, too, by programs that
    a job starts."""
    die_with_parent()
    for signum in WORKERS_SIGNALS:
        signal.signal(signum, lambda *_: None)
        signal.siginterrupt(signum, False)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WORKERS_SIGNALS)


class _Mail:
    """What a child says while it runs, and the one thing that it asks."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._own = Path(f"{order.mailbox}.{os.getpid()}")
        self._own.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._own))
        self._socket.setblocking(False)

    def send(self, **letter: Any) -> bool:
        """Tell the worker, now or never: whether there was room for it. While the worker's loop is blocked its mailbox
        fills up, which must not hold up the job, let alone fail it."""
        data = json.dumps({"number": self._order.number, **letter}, default=str).encode()
        if len(data) > LARGEST_DATAGRAM:
            return False
        try:
            self._socket.sendto(data, self._order.mailbox)
        except OSError:
            return False
        return True

    def may_start(self) -> bool:
        """Whether the worker still wants the job; False when it is gone."""
        worker, asked = os.getppid(), False
        while os.getppid() == worker:
            asked = asked or self.send(kind="ready", pid=os.getpid())
            if select.select([self._socket], [], [], 1.0 if asked else LOOK_AGAIN)[0]:
                return self._socket.recv(16) == GO
        return False

    def close(self) -> None:
        """Say that the function has returned."""
        self.send(kind="ended")
        self._socket.close()


class _ChildContext(Context):
    """A context whose progress goes to the worker."""

    mail: _Mail

    def progress(self, current: int, total: int | None = None, message: str | None = None) -> None:
        """Say how far the job is. Dropped where the worker does not get to reading it: there is news behind it."""
        self.mail.send(kind="progress", current=current, total=total, message=message)


class _LogToWorker(logging.Handler):
    """Sends log lines to the worker, which writes them with the job's fields."""

    def __init__(self, mail: _Mail) -> None:
        super().__init__()
        self._mail = mail

    def emit(self, record: logging.LogRecord) -> None:
        """Send one line."""
        text = record.msg.get("event") if isinstance(record.msg, dict) else record.getMessage()
        self._mail.send(kind="log", logger=record.name, level=record.levelno, text=str(text))


def run_order(order: Order) -> Verdict:
    """In the child: run the job and say how it ended."""
    mail = _Mail(order)
    handler = _LogToWorker(mail)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    signal.signal(signal.SIGUSR1, _raise_soft_limit)
    try:
        return _call(order, mail)
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        mail.close()


def _call(order: Order, mail: _Mail) -> Verdict:
    try:
        definition = getattr(importlib.import_module(order.module), order.function)
        context = _ChildContext(
            job_id=order.job_id, job=order.job, try_number=order.try_number, queue=order.queue, stopping=Stopping()
        )
        context.mail = mail
        enter_context(context)
        arguments = definition.schema.validate(json.loads(order.arguments))
        if not mail.may_start():
            return Verdict("raised", type="CancelledError", message="the worker does not want it any more")
        return _returned(definition.invoke(context, (), arguments))
    except Retry as retry:
        return Verdict("retry", json.dumps(retry.delay))
    except SoftTimeLimitExceeded:
        return Verdict("soft limit")
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        names = tuple(type_name(kind) for kind in type(error).__mro__)
        return Verdict("raised", "null", type(error).__name__, str(error), traceback.format_exc(), names)


def _returned(result: object) -> Verdict:
    try:
        return Verdict("returned", wire.dumps(result).decode())
    except NotSerializable as error:
        return Verdict("not json", message=str(error))


def _raise_soft_limit(_signum: int, _frame: object) -> None:
    raise SoftTimeLimitExceeded
