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
NOWHERE = "redis://inline.invalid"  # the URL of a client without Redis; `.invalid` never resolves (RFC 2606)
NOT_IN_PRODUCTION = (
    f"{VARIABLE} must be off in production, as it is for development and tests: unset it "
    "(or set EMBARQ_ENV=development if this host, which has DYNO, is not production)"
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
    """Refuse to run a command that has nothing to do in inline mode.

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
