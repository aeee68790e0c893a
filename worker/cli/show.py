"""What commands print: tables for people, JSON for scripts."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from worker.cli.check import Check
from worker.core import wire
from worker.core.job import Job
from worker.core.texts import escaped

EMPTY: tuple[Any, ...] = (None, (), {}, [])


def job(found: Job, *, as_json: bool) -> None:
    """A job, a field a line."""
    fields(asdict(found), as_json=as_json)


def checks(made: Sequence[Check], *, as_json: bool) -> None:
    """What the doctor found, a check a line."""
    if as_json:
        json_of([asdict(check) for check in made])
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    for check in made:
        sign = _told(*("warning", "yellow") if check.warning else ("ok", "green") if check.ok else ("wrong", "red"))
        table.add_row(sign, _told(check.what, "bold"), _told(check.finding))
    Console().print(table)


def rows(records: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """Records of the same fields, one a line."""
    if as_json:
        json_of(records)
        return
    if not records:
        Console().print("none")
        return
    table = Table(box=None, pad_edge=False)
    names = [name for name in records[0] if any(record[name] not in EMPTY for record in records)]
    for place, name in enumerate(names):
        justify: Literal["left", "right"] = "right" if _is_number(records[0][name]) else "left"
        table.add_column(name.replace("_", " "), justify=justify, no_wrap=place == 0)
    for record in records:
        table.add_row(*("" if record[name] in EMPTY else _cell(record[name]) for name in names))
    Console().print(table)


def fields(record: dict[str, Any], *, as_json: bool) -> None:
    """One record, a field a line."""
    if as_json:
        json_of(record)
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in record.items():
        if value not in EMPTY:
            table.add_row(_told(name, "bold"), _cell(value))
    Console().print(table)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: Any) -> Text:
    if isinstance(value, datetime):
        return _told(f"{value:%Y-%m-%d %H:%M:%S}")
    return _told(value if isinstance(value, str) else wire.dumps(value).decode().strip('"'))


def _told(text: str, style: str = "") -> Text:
    """Text as it is: no markup or emoji codes of rich's, and no escape sequences that would control the terminal."""
    return Text(escaped(text), style)


def json_of(record: Any) -> None:
    """Any record, for scripts."""
    sys.stdout.write(wire.dumps(record).decode() + "\n")
