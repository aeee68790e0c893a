"""`python -m worker.dev.check`: whether the project can be imported as it is now. What is wrong is told on standard
error, and by the exit code."""

import importlib
import sys
import traceback

from worker.discovery import discover
from worker.errors import EmbarqError
from worker.project import find_project
from worker.registry import registry
from worker.texts import LONGEST_TRACEBACK, tail


def check() -> None:
    """Import what the API and a worker would.

    Raises:
        EmbarqError: it says what is wrong.
    """
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
    except BaseException:  # whatever a module raises, or that it wants to exit
        sys.stderr.write(tail(traceback.format_exc(), LONGEST_TRACEBACK))
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
