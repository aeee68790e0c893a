"""The command `embarq`."""

import signal
import sys

from worker.cli.loading import load


def main() -> None:
    """Run a command; a failure is one line on standard error, and an exit code."""
    is_heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not where it is ignored, as by nohup
    if is_heard:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # during imports Ctrl-C ends the process, without a traceback
    app = load("cli.commands").app  # it takes a moment

    if is_heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        app()
    except Exception as error:  # unexpected ones are raised again, with their tracebacks
        sys.exit(load("cli.failures").tell(error))
