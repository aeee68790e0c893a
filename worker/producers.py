"""Who queues calls in this process, for jobs that know no more than their registry."""

from typing import Protocol, TypeVar

from worker import wire
from worker.calls import Call
from worker.declared import Outbox
from worker.errors import EmbarqError
from worker.handle import JobHandle, WorkflowHandle
from worker.inline_mode import inline_process, is_inline
from worker.sync_handle import SyncJobHandle, SyncWorkflowHandle
from worker.workflows import Flow, WorkflowOptions

R = TypeVar("R")


class Producer(Protocol):
    """Whoever puts calls into a queue: the client."""

    @property
    def max_arguments(self) -> int:
        """Bytes that a call may take as JSON."""
        ...

    @property
    def outbox(self) -> Outbox | None:
        """Where calls of `enqueue_in` go instead of the database's table."""
        ...

    async def enqueue(self, call: Call[R]) -> JobHandle[R]:
        """Queue one call and return a handle on its job."""
        ...

    async def start(self, flow: Flow, options: WorkflowOptions) -> WorkflowHandle:
        """Start a workflow and return a handle on it."""
        ...


class SyncProducer(Protocol):
    """The same for callers that cannot await: the sync client."""

    def enqueue(self, call: Call[R]) -> SyncJobHandle[R]:
        """Queue one call and return a handle on its job."""
        ...

    def start(self, flow: Flow, options: WorkflowOptions) -> SyncWorkflowHandle:
        """Start a workflow and return a handle on it."""
        ...


class Producers:
    """The clients that the jobs of a registry use. `bound`, `bound_sync`: those that were named for it."""

    def __init__(self) -> None:
        self.bound: Producer | None = None
        self.bound_sync: SyncProducer | None = None
        self._inline: Producer | None = None

    @property
    def producer(self) -> Producer:
        """The client that `.enqueue(...)` uses in this process: the one that was bound, or that of `EMBARQ_INLINE`.

        Raises:
            EmbarqError: no client was bound.
        """
        found = self.bound or self._stand_in()
        if found is None:
            raise EmbarqError(
                "no client in this process: call registry.bind(client) at start-up, or set EMBARQ_INLINE=1 to run jobs "
                "where they are enqueued"
            )
        return found

    @property
    def sync_producer(self) -> SyncProducer:
        """The client that `.enqueue_sync(...)` uses in this process: the one that is open, or that of `EMBARQ_INLINE`.

        Raises:
            EmbarqError: none is open.
        """
        if self.bound_sync is not None:
            return self.bound_sync
        if not is_inline():
            raise EmbarqError("no sync client is open in this process: `with SyncClient(url):`, or set EMBARQ_INLINE=1")
        stand_in: SyncProducer = inline_process().sync_client()
        return stand_in

    def _stand_in(self) -> Producer | None:
        if not is_inline():
            return None
        if self._inline is None:
            self._inline = inline_process().client_for(self)
        return self._inline

    @property
    def outbox(self) -> Outbox | None:
        """Where calls of `enqueue_in` go in this process instead of the database's table."""
        producer = self.bound or self._stand_in()
        return None if producer is None else producer.outbox

    @property
    def max_arguments(self) -> int:
        """Bytes that a call may take in this process: as its client says, where one is bound."""
        return wire.LARGEST if self.bound is None else self.bound.max_arguments

    def bind(self, producer: Producer | None) -> None:
        """Name the client that `.enqueue(...)` uses in this process."""
        self.bound = producer

    def bind_sync(self, producer: SyncProducer | None) -> None:
        """Name the client that `.enqueue_sync(...)` uses in this process; `SyncClient.open` does it."""
        self.bound_sync = producer
