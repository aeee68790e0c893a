"""What commands print: tables for people, JSON for scripts."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from worker import wire
from worker.cli.check import Check
from worker.job import Job


def job(found: Job, *, as_json: bool) -> None:
    """A job, a field a line."""
    record: dict[str, Any] = asdict(found)
    if as_json:
        _json(record)
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in record.items():
        if value not in (None, (), {}):
            table.add_row(f"[bold]{name}[/]", _cell(value))
    Console().print(table)


def checks(made: Sequence[Check], *, as_json: bool) -> None:
    """What the doctor found, a check a line."""
    if as_json:
        _json([asdict(check) for check in made])
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    for check in made:
        sign = "[green]ok[/]" if check.ok else "[red]wrong[/]"
        table.add_row(sign if not check.warning else "[yellow]warning[/]", f"[bold]{check.what}[/]", check.finding)
    Console().print(table)


def _cell(value: Any) -> str:

    return escape(value if isinstance(value, str) else wire.dumps(value).decode().strip('"'))


def _json(record: Any) -> None:
    sys.stdout.write(wire.dumps(record).decode() + "\n")
