"""How a failure is told: in a job's result, and in the log."""

import traceback
from collections.abc import Mapping
from typing import Any

from worker.core.errors import ErrorInProcess
from worker.core.raised import traits
from worker.core.texts import LONGEST_MESSAGE, LONGEST_TRACEBACK, head, tail


def failure(kind: str, message: str, trace: str | None = None) -> dict[str, Any]:
    """A failure as the wire promises it."""
    cut = None if trace is None else tail(trace, LONGEST_TRACEBACK)
    return {"type": kind, "message": head(message, LONGEST_MESSAGE), "traceback": cut}


def describe(error: BaseException) -> dict[str, Any]:
    """What a job raised, as a failure."""
    if isinstance(error, ErrorInProcess):
        return failure(error.kind, str(error), error.trace)
    return failure(type(error).__name__, str(error), "".join(traceback.format_exception(error)))


def traits_of(error: BaseException) -> Mapping[str, Any]:
    """What `raised.rebuilt` needs beside that to make one like it."""
    return error.traits if isinstance(error, ErrorInProcess) else traits(error, head(error, LONGEST_MESSAGE))


def summary(error: BaseException) -> str:
    """A line of the log."""
    kind = error.kind if isinstance(error, ErrorInProcess) else type(error).__name__
    return f"{kind}: {head(error, LONGEST_MESSAGE)}"
