"""Migrations by alembic. The engine's revisions are a branch; a project may add branches of its own."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import exc, text
from sqlalchemy.ext.asyncio import AsyncEngine

from worker.core.errors import EmbarqError
from worker.database.branches import VERSIONS
from worker.database.database import DatabaseUnavailable, unavailable_when_away
from worker.database.names import ENGINE, refuse_taken_names

FOLDER = Path(__file__).parent / "migrations"


def migrate(database_url: str, folders: Sequence[Path] = (), *, back_to: str | None = None) -> None:
    """Run the revisions that the database does not have, the engine's and those in `folders`, or undo those after the
    revision `back_to`; `base` undoes all.

    Raises:
        EmbarqError: there is no such revision, two have one name, the database has one that is in none of the folders,
            or it refuses a statement of a revision.
        DatabaseUnavailable: no database answers there.
    """
    config = _config(folders)
    config.set_main_option("sqlalchemy.url", _quoted(database_url))
    try:
        with unavailable_when_away():
            if back_to is None:
                command.upgrade(config, "heads")
            else:
                command.downgrade(config, back_to)
    except DatabaseUnavailable as error:
        cause = getattr(error.__cause__, "orig", error.__cause__)  # the driver's error
        raise DatabaseUnavailable(f"{error} ({cause}): check DATABASE_URL") from error
    except exc.DBAPIError as error:
        reason = getattr(error.orig, "__cause__", None) or error.orig  # the driver's error
        raise EmbarqError(f"the database refused a statement of a revision ({reason}); --debug shows where") from error
    except CommandError as error:
        raise EmbarqError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Revisions:
    """The available revisions: all of them, and the newest one of each branch."""

    all: frozenset[str]
    newest: frozenset[str]

    @classmethod
    def of(cls, folders: Sequence[Path]) -> Self:
        """The engine's, and those in `folders`.

        Raises:
            EmbarqError: two have one name, or they do not follow one another.
        """
        found = ScriptDirectory.from_config(_config(folders))
        try:
            return cls(frozenset(each.revision for each in found.walk_revisions()), frozenset(found.get_heads()))
        except CommandError as error:
            raise EmbarqError(str(error)) from error


async def seen_revisions(engine: AsyncEngine) -> frozenset[str]:
    """The newest revision of each branch that a database has run; none where it has run none.

    Raises:
        DatabaseUnavailable: it does not answer.
    """
    with unavailable_when_away():
        async with engine.connect() as connection:
            if not await connection.scalar(text("SELECT to_regclass(:table) IS NOT NULL"), {"table": VERSIONS}):
                return frozenset()
            return frozenset(await connection.scalars(text(f"SELECT version_num FROM {VERSIONS}")))  # noqa: S608


def _config(folders: Sequence[Path]) -> Config:
    places = list(dict.fromkeys(each.resolve() for each in (ENGINE, *folders)))
    refuse_taken_names(places)
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.set_main_option("path_separator", "os")
    config.set_main_option("version_locations", _quoted(os.pathsep.join(map(str, places))))
    return config


def _quoted(text: str) -> str:
    """For a value of an `.ini` file, where a percent sign interpolates."""
    return text.replace("%", "%%")
