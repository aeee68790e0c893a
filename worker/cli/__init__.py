"""The command `embarq`."""

import sys

from worker.cli.commands import app
from worker.errors import EmbarqError
from worker.settings import SettingsError

USAGE_ERROR = 2
FAILURE = 1


def main() -> None:
    """Run a command; what went wrong is one line on standard error, and the exit code says so."""
    try:
        app()
    except SettingsError as error:
        sys.stderr.write(f"embarq: wrong setting\n{error}\n")
        sys.exit(USAGE_ERROR)
    except EmbarqError as error:
        sys.stderr.write(f"embarq: {error}\n")
        sys.exit(FAILURE)
