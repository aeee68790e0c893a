"""`embarq migrate`: alembic, told where the migrations and the database are."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from worker.errors import EmbarqError

FOLDER = Path(__file__).parents[2] / "migrations"


def migrate(database_url: str, *, back_to: str | None = None) -> None:
    """Run the migrations that the database has not seen, or undo those after the revision `back_to`.

    Raises:
        EmbarqError: there is no such revision.
    """
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.set_main_option("sqlalchemy.url", database_url.replace("%", "%%"))
    try:
        if back_to is None:
            command.upgrade(config, "head")
        else:
            command.downgrade(config, back_to)
    except CommandError as error:
        raise EmbarqError(str(error)) from error
