"""Whether `EMBARQ_INLINE` lets this process run its jobs itself.

Kept apart from `worker.inline`, which stands above the client and the registry and is loaded only where it is on.
"""

import importlib
import os
from types import ModuleType

from worker.core.errors import EmbarqError
from worker.core.variables import is_production

VARIABLE = "EMBARQ_INLINE"
NOWHERE = "redis://inline.invalid"  # where a client is said to connect that connects to nothing
NOT_IN_PRODUCTION = (
    f"{VARIABLE} is on, which is for development and tests, and this is production: unset it "
    "(EMBARQ_ENV=development says that a host with DYNO is none)"
)
ON = frozenset({"1", "true", "t", "yes", "y", "on"})  # as settings read truth values
OFF = frozenset({"", "0", "false", "f", "no", "n", "off"})


def is_inline() -> bool:
    """Whether it is on.

    Raises:
        EmbarqError: it is on in production, or is neither on nor off.
    """
    value = os.environ.get(VARIABLE, "").strip().lower()
    if value in OFF:
        return False
    if value not in ON:
        raise EmbarqError(f"{VARIABLE}={value!r} must be 1 or 0")
    if is_production(os.environ):
        raise EmbarqError(NOT_IN_PRODUCTION)
    return True


def refuse_inline(command: str) -> None:
    """Let a command that has nothing to do there say so.

    Raises:
        EmbarqError: it is on.
    """
    if is_inline():
        raise EmbarqError(
            f"{command} has nothing to do while {VARIABLE} is on: jobs run in the process that enqueues them; unset it"
        )


def inline_process() -> ModuleType:
    """`worker.inline.process`, which has this process's own client."""
    return importlib.import_module("worker.inline.process")
