"""Inside the process of a job: take an order, call the function, say how it went. Outside is `pool.py`."""

import importlib
import json
import logging
import os
import select
import signal
import socket
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

import structlog

from worker.core import wire
from worker.core.arq_retry import asked_delay
from worker.core.context import CONTEXT, Context, Stopping
from worker.core.errors import NoClient, NotSerializable, Retry, SoftTimeLimitExceeded, TooLarge, type_name
from worker.core.raised import traits
from worker.core.stopping import STOPS
from worker.core.texts import LONGEST_MESSAGE, LONGEST_TRACEBACK, head, tail
from worker.system.parent import die_with_parent

LARGEST_DATAGRAM = 100_000
LOOK_AGAIN = 0.01
GO = b"go"


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
    workflow_id: str | None
    enqueued_ms: int
    mailbox: str
    max_result: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a job in a child ended. `value` is the result as JSON, or the delay of a retry; `traits`: see `raised`."""

    kind: Literal["returned", "not json", "too large", "retry", "soft limit", "raised"]
    value: str = "null"
    type: str = ""
    message: str = ""
    trace: str = ""
    types: tuple[str, ...] = ()
    traits: Mapping[str, Any] = field(default_factory=dict)


def start_child() -> None:
    """Die with the worker, and leave its signals to it. By a handler: what is ignored is ignored, too, by programs that
    a job starts."""
    die_with_parent()
    for signum in STOPS:
        signal.signal(signum, lambda *_: None)
        signal.siginterrupt(signum, False)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    structlog.configure(
        processors=[structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


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
    """A context whose progress goes to the worker, without the worker's client."""

    mail: _Mail

    @property
    def client(self) -> NoReturn:
        """There is none.

        Raises:
            NoClient: always.
        """
        raise NoClient(
            "a job in a process of its own (process=True) has no ctx.client: return what is to follow, and let a "
            "workflow's next step or on_success queue it"
        )

    def progress(
        self,
        current: int,
        total: int | None = None,
        message: str | None = None,
        *,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        """Say how far the job is. Dropped where the worker does not get to reading it: there is news behind it."""
        Context.progress(self, current, total, message, meta=meta)
        if self.last_progress is not None:
            self.mail.send(kind="progress", **asdict(self.last_progress))


class _LogToWorker(logging.Handler):
    """Sends log lines to the worker, which writes them with the job's fields."""

    def __init__(self, mail: _Mail) -> None:
        super().__init__()
        self._mail = mail

    def emit(self, record: logging.LogRecord) -> None:
        """Send one line."""
        text = _line(dict(record.msg)) if isinstance(record.msg, dict) else record.getMessage()
        self._mail.send(kind="log", logger=record.name, level=record.levelno, text=head(text, LONGEST_MESSAGE))


def _line(fields: dict[str, object]) -> str:
    """A structured line as text."""
    return " ".join([str(fields.pop("event", "")), *(f"{name}={value!r}" for name, value in fields.items())])


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
            job_id=order.job_id,
            job=order.job,
            try_number=order.try_number,
            queue=order.queue,
            workflow_id=order.workflow_id,
            enqueued_ms=order.enqueued_ms,
            stopping=Stopping(),
        )
        context.mail = mail
        CONTEXT.set(context)
        arguments = definition.schema.validate(json.loads(order.arguments))
        if not mail.may_start():
            return Verdict("raised", type="CancelledError", message="the worker does not want it any more")
        return _returned(definition.invoke(context, (), arguments), order.max_result)
    except Retry as retry:
        return Verdict("retry", json.dumps(retry.delay))
    except SoftTimeLimitExceeded:
        return Verdict("soft limit")
    except BaseException as error:  # a job may raise what it likes
        asked = asked_delay(error)
        if asked is not None:
            return Verdict("retry", json.dumps(asked))
        names = tuple(type_name(kind) for kind in type(error).__mro__)
        message, trace = head(error, LONGEST_MESSAGE), tail(traceback.format_exc(), LONGEST_TRACEBACK)
        return Verdict("raised", "null", type(error).__name__, message, trace, names, traits(error, message))


def _returned(result: object, most: int) -> Verdict:
    try:
        return Verdict("returned", wire.dumps_within(result, most).decode())
    except TooLarge as error:
        return Verdict("too large", message=str(error))
    except NotSerializable as error:
        return Verdict("not json", message=str(error))


def _raise_soft_limit(_signum: int, _frame: object) -> None:
    raise SoftTimeLimitExceeded
