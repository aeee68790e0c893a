"""Whether `EMBARQ_INLINE` lets this process run its jobs itself.

Kept apart from `worker.inline`, which stands above the client and the registry, and says so here when it is loaded.
"""

import os
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from worker.core.errors import EmbarqError
from worker.core.queue_client import Producer, QueueClient, SyncProducer
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


class InlineProcess(Protocol):
    """Whoever runs the jobs of this process in it: `worker.inline.process`."""

    def client_for(self, home: object) -> Producer:
        """A client that runs the jobs of a registry."""
        ...

    def open_client(self, max_arguments: int) -> AbstractAsyncContextManager[QueueClient]:
        """A client that closes on leaving what its jobs were given in this loop."""
        ...

    def sync_client(self) -> SyncProducer:
        """A client for callers that cannot await."""
        ...


_provided: list[InlineProcess] = []


def provide(process: InlineProcess) -> None:
    """Name who runs the jobs of this process."""
    _provided[:] = [process]


def inline_process() -> InlineProcess:
    """Who runs the jobs of this process.

    Raises:
        EmbarqError: it is not loaded.
    """
    if not _provided:
        raise EmbarqError(f"{VARIABLE} is on, and what runs jobs is not loaded: import what you need from `worker`")
    return _provided[0]
