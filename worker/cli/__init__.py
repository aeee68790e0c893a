"""The command `embarq`."""

import signal
import sys

from worker.cli.loading import load


def main() -> None:
    """Run a command; what went wrong is one line on standard error, and the exit code says so."""
    is_heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not where somebody has it ignored
    if is_heard:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # so early, Ctrl-C is the end, and no traceback
    app = load("cli.commands").app  # it takes a moment

    if is_heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        app()
    except Exception as error:  # those that nobody expects pass through, with their tracebacks
        sys.exit(load("cli.failures").tell(error))
