"""`python -m worker.dev.check`: whether the project can be imported as it is now. Problems go to standard error, and
the exit code says whether there are any."""

import importlib
import sys
import traceback
from pathlib import Path

from worker.core.errors import EmbarqError
from worker.core.texts import LONGEST_TRACEBACK, tail
from worker.definition.discovery import discover
from worker.definition.registry import registry
from worker.settings.env_file import read_env_file
from worker.settings.project import ENGINE, find_project


def check() -> None:
    """Import what the API and a worker would, with the variables that they would read from `.env`.

    Raises:
        EmbarqError: it says what is wrong.
    """
    read_env_file(Path.cwd())
    project = find_project()
    settings = project.load_settings()
    discover(settings.jobs, registry)
    registry.route(settings.routes)
    importlib.import_module(project.app.partition(":")[0])


def main() -> int:
    """The exit code."""
    try:
        check()
    except EmbarqError as error:
        sys.stderr.write(f"{error}\n")
    except BaseException as error:  # whatever a module raises, SystemExit too
        sys.stderr.write(tail(_traceback(error), LONGEST_TRACEBACK))
    else:
        return 0
    return 1


def _traceback(error: BaseException) -> str:
    """The traceback with the frames of the project's own code alone: how we came to import it helps nobody."""
    told, here = traceback.TracebackException.from_exception(error), str(Path.cwd())
    own = [step for step in told.stack if step.filename.startswith(here) and not step.filename.startswith(str(ENGINE))]
    told.stack[:] = own
    return "".join(told.format())


if __name__ == "__main__":
    sys.exit(main())
