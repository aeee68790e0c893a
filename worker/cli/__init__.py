"""The command `embarq`."""

import sys

from worker.cli.commands import app


def main() -> None:
    """Run a command; what went wrong is one line on standard error, and the exit code says so."""
    try:
        app()
    except Exception as error:  # those that nobody expects pass through, with their tracebacks
        from worker.cli import failures  # noqa: PLC0415  # most commands end well

        sys.exit(failures.tell(error))
