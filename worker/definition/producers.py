"""Which client queues calls in this process, for jobs that know only their registry."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from worker.core import wire
from worker.core.declared import Outbox
from worker.core.errors import EmbarqError
from worker.core.inline_mode import inline_process, is_inline
from worker.core.queue_client import Producer, SyncProducer
from worker.definition.bindings import Binding, Bindings


class Producers:
    """The clients that the jobs of a registry use: the latest one that is bound."""

    table: ClassVar[Outbox | None] = None  # the database's, which stands above: `worker.public` says where it is

    def __init__(self) -> None:
        self._bindings: Bindings[Producer] = Bindings()
        self._bound: Binding[Producer] | None = None
        self._open: Bindings[SyncProducer] = Bindings()
        self._lent: Bindings[SyncProducer] = Bindings()
        self._inline: Producer | None = None

    @property
    def producer(self) -> Producer:
        """The client that `.enqueue(...)` uses in this process: the one that was bound, or that of `EMBARQ_INLINE`.

        Raises:
            EmbarqError: no client was bound.
        """
        found = self._bindings.latest or self._stand_in()
        if found is None:
            raise EmbarqError(
                "no client is bound in this process: call registry.bind(client) at start-up, or set EMBARQ_INLINE=1 to "
                "run jobs where they are enqueued"
            )
        return found

    @property
    def sync_producer(self) -> SyncProducer:
        """The client that `.enqueue_sync(...)` uses in this process: the one that is open, or that of `EMBARQ_INLINE`.

        Raises:
            EmbarqError: none is open.
        """
        found = self._open.latest or self._lent.latest
        if found is not None:
            return found
        if not is_inline():
            raise EmbarqError(
                "no sync client is open in this process: open one, `with SyncClient(url):`, or set EMBARQ_INLINE=1"
            )
        return inline_process().sync_client()

    def _stand_in(self) -> Producer | None:
        if not is_inline():
            return None
        if self._inline is None:
            self._inline = inline_process().client_for(self)
        return self._inline

    @property
    def outbox(self) -> Outbox:
        """Where calls of `enqueue_in` go in this process: to what its client says, else to the database's table.

        Raises:
            EmbarqError: nothing says how to get at that.
        """
        producer = self._bindings.latest or self._stand_in()
        found = (None if producer is None else producer.outbox) or self.table
        if found is None:
            raise EmbarqError("no outbox is loaded: import what you need from `worker`")
        return found

    @property
    def max_arguments(self) -> int:
        """Bytes that a call may take in this process: its client's limit, where there is one."""
        producer = self._bindings.latest or self._stand_in()
        return wire.LARGEST if producer is None else producer.max_arguments

    def bind(self, producer: Producer | None) -> None:
        """Set the client that `.enqueue(...)` uses in this process, in place of the one that was set before. With None
        there is none, except for those of open blocks (`bound_to`)."""
        if self._bound is not None:
            self._bindings.remove(self._bound)
        self._bound = None if producer is None else self._bindings.add(producer)

    @contextmanager
    def bound_to(self, producer: Producer) -> Iterator[None]:
        """In the block, `.enqueue(...)` uses this client; after it, the one that would have been used without."""
        binding = self._bindings.add(producer)
        try:
            yield
        finally:
            self._bindings.remove(binding)

    def bind_sync(self, producer: SyncProducer) -> Binding[SyncProducer]:
        """Let `.enqueue_sync(...)` use this client until `unbind_sync`; `SyncClient.open` does it."""
        return self._open.add(producer)

    def unbind_sync(self, binding: Binding[SyncProducer]) -> None:
        """End what `bind_sync` began."""
        self._open.remove(binding)

    @contextmanager
    def lent(self, producer: SyncProducer) -> Iterator[None]:
        """In the block, `.enqueue_sync(...)` uses this client where no sync client is open."""
        binding = self._lent.add(producer)
        try:
            yield
        finally:
            self._lent.remove(binding)
