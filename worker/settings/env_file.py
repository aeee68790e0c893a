"""The file `.env` in the project's folder: variables for development, so that nobody must export them."""

import os
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from worker.core.variables import is_production
from worker.settings.engine import SettingsError

NAME = ".env"


def read_env_file(folder: Path) -> tuple[str, ...]:
    """Set what `.env` says and the environment does not, here and for children; the names that it set. In production,
    as the real environment says it, there is no such file for us.

    Raises:
        SettingsError: it cannot be read, or a line of it is none; the message names that.
    """
    path = folder / NAME
    if is_production(os.environ) or not path.is_file():
        return ()
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from error
    _refuse_damaged(path, source)
    found = dotenv_values(stream=StringIO(source))
    unset = {name: value for name, value in found.items() if value is not None and name not in os.environ}
    os.environ.update(unset)
    return tuple(unset)


def _refuse_damaged(path: Path, source: str) -> None:
    """What is not shown here may be a secret."""
    for each in parse_stream(StringIO(source)):
        line = each.original.line + _lines_before(each.original.string)
        if each.error:
            raise SettingsError(f"{path}:{line}: cannot be read: write NAME=value, and close each quote")
        if "\0" in each.original.string:
            raise SettingsError(f"{path}:{line}: has a NUL byte, which no variable can hold")
        if each.key is not None and "=" in each.key:
            raise SettingsError(f"{path}:{line}: a variable's name cannot hold =")


def _lines_before(statement: str) -> int:
    """Empty lines count to the statement after them."""
    return statement[: len(statement) - len(statement.lstrip())].count("\n")
