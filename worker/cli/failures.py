"""How a command that failed ends: one line, and an exit code."""

import os
import sys
import traceback
from pathlib import Path

from worker.cli.usage import UsageError
from worker.core.errors import (
    DefinitionError,
    EmbarqError,
    InvalidArguments,
    InvalidSchedule,
    InvalidWorkflow,
    UnknownJob,
)
from worker.core.texts import escaped
from worker.settings import SettingsError
from worker.settings.project import ProjectError

FAILURE = 1
USAGE_ERROR = 2
# Errors of the user: repeating the command fails the same way. Click's exit code for usage errors is 2 as well.
WRITTEN_WRONGLY = (
    DefinitionError,
    InvalidArguments,
    InvalidSchedule,
    InvalidWorkflow,
    ProjectError,
    SettingsError,
    UnknownJob,
    UsageError,
)


def tell(error: Exception) -> int:
    """Write an error to standard error, with the traceback where the log level is DEBUG; the exit code.

    Raises:
        Exception: `error` itself, where it is unexpected.
    """
    if isinstance(error, BrokenPipeError):  # as `| head` causes; Python would raise again when it flushes at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    if os.environ.get("EMBARQ_LOG_LEVEL", "").upper() == "DEBUG":
        traceback.print_exception(error)
    for line in _lines(error):
        sys.stderr.write(f"embarq: {escaped(line)}\n")
    return USAGE_ERROR if isinstance(error, WRITTEN_WRONGLY) else FAILURE


def _lines(error: Exception) -> list[str]:
    if isinstance(error, ExceptionGroup):  # of a worker, whose parts may fail for the same reason
        return list(dict.fromkeys(line for each in error.exceptions for line in _lines(each)))
    if isinstance(error, SettingsError):
        return str(error).splitlines()
    if isinstance(error, EmbarqError):
        return [" ".join(str(error).split())]
    if isinstance(error, OSError) and error.filename is not None:
        return [f"{error.filename}: {error.strerror}{_hint(str(error.filename))}"]
    raise error


def _hint(path: str) -> str:
    data = Path(os.environ.get("EMBARQ_DATA_DIR") or ".embarq").resolve()
    inside = Path(path).resolve().is_relative_to(data)
    return "; set EMBARQ_DATA_DIR to a writable folder" if inside else ""
