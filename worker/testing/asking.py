"""The test's client for code that cannot await: what it queues belongs to the test, too."""

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
    """Uses a second client of the test, in a thread that the first call starts. If the caller is in the test's loop,
    that is blocked meanwhile."""

    def __init__(self, client: TaggedClient) -> None:
        self._portal: Portal[Client] = Portal(client.beside)

    def ask(self, ask: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        """Call the client in its own loop; see `SyncCalls.ask`.

        Raises:
            EmbarqError: the caller is a job that is a coroutine, which could not do so in a worker either.
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
