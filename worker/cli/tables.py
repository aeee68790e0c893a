"""The database's tables, brought up to date."""

from worker.cli import run
from worker.database.migrate import migrate
from worker.dev import postgres_for
from worker.settings import refuse
from worker.settings.project import find_project


def bring_up_to_date(back_to: str | None) -> None:
    """Migrate the database of the settings, or a private one in development. `back_to`: undo all after this revision.

    Raises:
        SettingsMissing: there is no database, and this is production.
    """
    settings = run.start()
    if settings.database_url is None and not settings.development:
        refuse(["DATABASE_URL is not set: a private Postgres is for development only; set the service's database"])
    with postgres_for(settings.data_dir, settings.database_url) as url:
        migrate(url, find_project().migration_folders(), back_to=back_to)
