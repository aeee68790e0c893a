"""The client of a test for code that cannot await: what it queues is the test's as well."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from worker.client import Client
from worker.client.portal import OWN_LOOP, Portal
from worker.client.sync import SyncCalls
from worker.core.context import current_context
from worker.core.errors import EmbarqError
from worker.testing.client import TaggedClient

T = TypeVar("T")


class Asker(SyncCalls):
    """Asks a client beside the test's own, in a thread that the first question starts. The test's loop stands still
    meanwhile where it is the one that asks."""

    def __init__(self, client: TaggedClient) -> None:
        self._portal: Portal[Client] = Portal(client.beside)

    def ask(self, ask: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        """Ask the client anything in its own loop; see `SyncCalls.ask`.

        Raises:
            EmbarqError: a job that is a coroutine asks, which in a worker could not either.
        """
        if current_context() is not None and _is_in_loop():
            raise EmbarqError(OWN_LOOP)
        return self._portal.ask(ask)

    def close(self) -> None:
        """Close its connections, and end its thread."""
        self._portal.close()


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
