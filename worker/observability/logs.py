"""Structured logs: one set-up for structlog and plain `logging`, so that both carry the running job's fields.

Two lines per job go through here, so the path is short: structlog passes its fields to a `LogRecord` unrendered, and
one formatter writes it.
"""

import logging
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from structlog.typing import EventDict

from worker.core import wire
from worker.core.context import current_context
from worker.core.errors import NotSerializable
from worker.core.texts import LONGEST_TRACEBACK, tail
from worker.observability.batched_log_handler import BatchedHandler
from worker.observability.colours import Output, wants_colour
from worker.observability.console import coloured_line, console_line, shown

CHATTY = ("httpx", "httpcore", "uvicorn.access", "uvicorn.error", "watchfiles")
BEFORE_MIGRATIONS = ("Context impl", "Will assume")  # alembic logs these at every start
OWN_HANDLERS = ("uvicorn", "uvicorn.error")
NO_FIELDS = {"message", "asctime", "fields", "taskName", "color_message"}  # uvicorn's last one is the message again
_ORDINARY = frozenset(vars(logging.makeLogRecord({}))) | NO_FIELDS


@dataclass(frozen=True, slots=True)
class Stamp:
    """How the time of a line is written, and by which clock; `zone` follows the milliseconds."""

    form: str
    clock: Callable[[float], time.struct_time]
    zone: str = ""


FOR_MACHINES = Stamp("%Y-%m-%dT%H:%M:%S", time.gmtime, "Z")
FOR_PEOPLE = Stamp("%H:%M:%S", time.localtime)


def configure_logs(level: str, *, as_json: bool, stream: Output | None = None) -> None:
    """Send every line to a stream, standard error by default, for people or as one JSON object a line.

    Lines written inside a job carry `job`, `job_id` and `try`, those inside a request `request_id`.
    """
    output: Output = stream or sys.stderr
    hand_to_logging()
    handler = BatchedHandler(output)
    handler.setFormatter(LineFormatter(json_line, FOR_MACHINES) if as_json else for_people(wants_colour(output)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    logging.getLogger("alembic.runtime.migration").addFilter(_is_news)
    for own in OWN_HANDLERS:
        logging.getLogger(own).handlers.clear()
        logging.getLogger(own).propagate = True


def _is_news(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(BEFORE_MIGRATIONS)


def for_people(in_colour: bool) -> "LineFormatter":
    """The formatter of lines for people."""
    return LineFormatter(coloured_line if in_colour else console_line, FOR_PEOPLE)


def hand_to_logging() -> None:
    """Send what is logged with structlog through `logging`, whatever handlers that has."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            _to_record,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=logging.getLogger,
        cache_logger_on_first_use=True,
    )


def _to_record(_logger: object, _method: str, event: EventDict) -> tuple[tuple[str], dict[str, Any]]:
    """Structlog's last processor: the arguments for `logging`."""
    message = str(event.pop("event", ""))
    given = {name: event.pop(name) for name in ("exc_info", "stack_info", "stacklevel") if name in event}
    return (message,), {"extra": {"fields": event}, **given}


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """A record's fields: its own, the request's, and the running job's."""
    known: dict[str, Any] | None = getattr(record, "all_fields", None)
    if known is not None:
        return known
    fields = structlog.contextvars.get_contextvars()
    context = current_context()
    if context is not None:
        fields |= context.log_fields()
    own: Mapping[str, Any] | None = getattr(record, "fields", None)
    if own is None:  # a line of plain logging
        own = {name: value for name, value in vars(record).items() if name not in _ORDINARY}
    return {**fields, **own}


class LineFormatter(logging.Formatter):
    """Writes a record by `render(time, record, fields)`, with its traceback as the field `exception`."""

    def __init__(self, render: Callable[[str, logging.LogRecord, dict[str, Any]], str], stamp: Stamp) -> None:
        super().__init__()
        self._render = render
        self._stamp = stamp
        self._second = (0, "")

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        stamp, second = self._stamp, int(record.created)  # strftime is slow, and most lines share their second
        if second != self._second[0]:
            self._second = (second, time.strftime(stamp.form, stamp.clock(second)))
        moment = f"{self._second[1]}.{int(record.msecs):03d}{stamp.zone}"
        fields = fields_of(record)
        if record.exc_info and record.exc_info[0] is not None:
            fields["exception"] = tail(self.formatException(record.exc_info), LONGEST_TRACEBACK)
        return self._render(moment, record, fields)


def json_line(moment: str, record: logging.LogRecord, fields: dict[str, Any]) -> str:
    """For machines: one object per line; what has no JSON form is shown as text."""
    head = {"timestamp": moment, "level": record.levelname.lower(), "logger": record.name, "event": record.getMessage()}
    try:
        return wire.dumps(head | fields).decode()
    except NotSerializable:
        return wire.dumps(head | {name: shown(value) for name, value in fields.items()}).decode()
