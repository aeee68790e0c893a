"""Migrations: alembic, told where revisions and database are. The engine has a branch, a project may add its own."""

import os
from collections.abc import Sequence
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from worker.errors import EmbarqError

FOLDER = Path(__file__).parent / "migrations"


def migrate(database_url: str, folders: Sequence[Path] = (), *, back_to: str | None = None) -> None:
    """Run the revisions that the database has not seen, the engine's and those in `folders`, or undo those after the
    revision `back_to`; `base` undoes all.

    Raises:
        EmbarqError: there is no such revision, or the database has seen one that is in none of the folders.
    """
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.set_main_option("path_separator", "os")
    config.set_main_option("version_locations", _quoted(os.pathsep.join(map(str, [FOLDER / "versions", *folders]))))
    config.set_main_option("sqlalchemy.url", _quoted(database_url))
    try:
        if back_to is None:
            command.upgrade(config, "heads")
        else:
            command.downgrade(config, back_to)
    except CommandError as error:
        raise EmbarqError(str(error)) from error


def _quoted(text: str) -> str:
    """For a value of an `.ini` file, where a percent sign interpolates."""
    return text.replace("%", "%%")
