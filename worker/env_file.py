"""The file `.env` in the project's folder: variables for development, so that nobody must export them."""

import os
from pathlib import Path

from worker.settings import SettingsError
from worker.variables import is_production

NAME = ".env"


def read_env_file(folder: Path) -> tuple[str, ...]:
    """Set what `.env` says and the environment does not, here and for children; the names that it set. In production,
    as the real environment says it, there is no such file for us.

    Raises:
        SettingsError: it cannot be read.
    """
    path = folder / NAME
    if is_production(os.environ) or not path.is_file():
        return ()
    from dotenv import dotenv_values  # noqa: PLC0415  # few projects have the file

    try:
        found = dotenv_values(path)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from error
    unset = {name: value for name, value in found.items() if value is not None and name not in os.environ}
    os.environ.update(unset)
    return tuple(unset)
