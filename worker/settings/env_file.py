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
    """Set the variables of `.env` that the environment does not have, here and for children; the names that were set.
    The file is ignored where the real environment says that this is production.

    Raises:
        SettingsError: it cannot be read, or a line of it is wrong; the message names that.
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
    """The errors show no part of a line, which may be a secret."""
    for each in parse_stream(StringIO(source)):
        line = each.original.line + _lines_before(each.original.string)
        if each.error:
            raise SettingsError(f"{path}:{line}: must be NAME=value, with each quote closed")
        if "\0" in each.original.string:
            raise SettingsError(f"{path}:{line}: must not have a NUL byte, which no variable can hold")
        if each.key is not None and "=" in each.key:
            raise SettingsError(f"{path}:{line}: a variable's name must not hold =")


def _lines_before(statement: str) -> int:
    """Empty lines count to the statement after them."""
    return statement[: len(statement) - len(statement.lstrip())].count("\n")
