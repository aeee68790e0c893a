"""Log lines for people: a short time, the level, the event, the fields; stacks below, on lines of their own.

Values from clients must not control a terminal, or look like a log line: control characters and line breaks are shown
as escapes, and every line of a stack is indented.
"""

import logging
from typing import Any

from worker.core.texts import escaped
from worker.observability.colours import DIM, GREEN, RED, YELLOW, painted

EVENT_WIDTH = 30
INDENT = "    "
STACKS = ("stack", "exception")
TRACEBACK = "Traceback (most recent call last):\n"
LEVELS = {"DEBUG": DIM, "INFO": GREEN, "WARNING": YELLOW, "ERROR": RED, "CRITICAL": RED}
BARE = frozenset({int, float, bool, type(None)})


def console_line(moment: str, record: logging.LogRecord, fields: dict[str, Any]) -> str:
    """A record without colours. Each job writes two, so the whole line is checked once instead of each value."""
    pairs = "".join([f" {name}={value if type(value) in BARE else _shown(value)}" for name, value in fields.items()])
    line = f"{moment} {record.levelname:<8} {record.getMessage():<{EVENT_WIDTH}} [{record.name}]{pairs}"
    if line.isprintable() and "exception" not in fields and "stack" not in fields:
        return line
    what, below = _told(record, fields)
    pairs = "".join([f" {name}={shown(value)}" for name, value in fields.items()])
    return f"{moment} {record.levelname:<8} {what:<{EVENT_WIDTH}} [{record.name}]{pairs}{below}"


def coloured_line(moment: str, record: logging.LogRecord, fields: dict[str, Any]) -> str:
    """A record for a terminal: the level in its colour, and the least important parts dim."""
    what, below = _told(record, fields)
    level = painted(f"{record.levelname:<8}", LEVELS.get(record.levelname, ""))
    pairs = "".join([f" {painted(name + '=', DIM)}{shown(value)}" for name, value in fields.items()])
    return f"{painted(moment, DIM)} {level} {what:<{EVENT_WIDTH}} {painted(f'[{record.name}]', DIM)}{pairs}{below}"


def _told(record: logging.LogRecord, fields: dict[str, Any]) -> tuple[str, str]:
    """The event, and the stacks below it, which are removed from the fields."""
    message = record.getMessage().rstrip("\n")
    stacks = [fields.pop(name) for name in STACKS if name in fields]
    if message.startswith(TRACEBACK):  # as uvicorn logs an application that does not start
        message, _, rest = message.partition("\n")
        stacks.append(rest)
    return escaped(message), "".join(["\n" + stack(each) for each in stacks])


def shown(value: object) -> str:
    """A field's value, safe for a line."""
    return str(value) if type(value) in BARE else escaped(_shown(value))


def _shown(value: object) -> str:
    """A value without quotes where it needs none."""
    if isinstance(value, str) and value and " " not in value and "=" not in value:
        return value
    return repr(value)


def stack(text: object) -> str:
    """A stack: its line breaks are kept, and each line is indented."""
    return "\n".join([INDENT + escaped(line.expandtabs(4)) for line in str(text).rstrip("\n").split("\n")])
