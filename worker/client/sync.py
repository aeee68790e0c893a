"""The client for code without an event loop: Flask, Django, scripts, notebooks."""

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar

from worker.broker.inspect import QueueRecord, WorkerRecord
from worker.client.bulks import BULK
from worker.client.client import Client
from worker.client.diagnosis import Reason
from worker.client.portal import OWN_LOOP, Portal, awaited
from worker.core import wire
from worker.core.calls import Call
from worker.core.errors import EmbarqError
from worker.core.handle import JobHandle
from worker.core.job import Job, State
from worker.core.queue_client import SyncProducer
from worker.core.sync_handle import SyncJobHandle, SyncWorkflowHandle
from worker.core.workflow import Workflow
from worker.core.workflow_graph import Flow, WorkflowOptions
from worker.definition.bindings import Binding
from worker.definition.registry import Registry
from worker.definition.registry import registry as default_registry

R = TypeVar("R")
T = TypeVar("T")


class SyncCalls(ABC):
    """The methods of `Client` for callers that cannot await."""

    @abstractmethod
    def ask(self, ask: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        """Ask the `Client` anything in its own loop: `client.ask(lambda client: client.schedules.all())`."""

    def enqueue(self, call: Call[R]) -> SyncJobHandle[R]:
        """Queue one call; see `Client.enqueue`."""
        handle = self.ask(lambda client: client.enqueue(call))
        return SyncJobHandle(handle.id, self, created=handle.created)

    def enqueue_many(self, calls: Iterable[Call[R]]) -> list[SyncJobHandle[R]]:
        """Queue many calls, a thousand a round trip; see `Client.enqueue_many`. `calls` is read in the caller's thread;
        what it raises is passed on, once the thousands before are queued."""
        handles: list[SyncJobHandle[R]] = []
        remaining = iter(calls)
        while some := list(islice(remaining, BULK)):
            queued = self.ask(partial(_enqueue_many, some))
            handles += [SyncJobHandle(handle.id, self, created=handle.created) for handle in queued]
        return handles

    def start(self, flow: Flow, options: WorkflowOptions) -> SyncWorkflowHandle:
        """Start a workflow; see `Client.start`."""
        handle = self.ask(lambda client: client.start(flow, options))
        return SyncWorkflowHandle(handle.id, self, created=handle.created)

    def find(self, job_id: str) -> Job:
        """The job as it is now; see `Client.find`."""
        return self.ask(lambda client: client.find(job_id))

    def wait_for(self, job_id: str, timeout: float | None = None) -> Job:
        """The job once it has ended, or as it is after `timeout` seconds; see `Client.wait_for`."""
        return self.ask(lambda client: client.wait_for(job_id, timeout))

    def cancel(self, job_id: str) -> State:
        """Cancel a job; see `Client.cancel`."""
        return self.ask(lambda client: client.cancel(job_id))

    def why(self, job_id: str) -> list[Reason]:
        """Why a job waits; see `Client.why`."""
        return self.ask(lambda client: client.why(job_id))

    def workflow(self, workflow_id: str) -> Workflow:
        """A workflow as it is now; see `Client.workflow`."""
        return self.ask(lambda client: client.workflow(workflow_id))

    def wait_for_workflow(self, workflow_id: str, timeout: float | None = None) -> Workflow:
        """A workflow once it has ended, or as it is after `timeout` seconds; see `Client.wait_for_workflow`."""
        return self.ask(lambda client: client.wait_for_workflow(workflow_id, timeout))

    def cancel_workflow(self, workflow_id: str) -> None:
        """Cancel all of a workflow; see `Client.cancel_workflow`."""
        self.ask(lambda client: client.cancel_workflow(workflow_id))

    def retry_workflow(self, workflow_id: str) -> None:
        """Let a workflow go on from where it failed; see `Client.retry_workflow`."""
        self.ask(lambda client: client.retry_workflow(workflow_id))

    def pause_queue(self, queue: str) -> bool:
        """Let no worker take jobs from a queue; see `Client.pause_queue`."""
        return self.ask(lambda client: client.pause_queue(queue))

    def resume_queue(self, queue: str) -> bool:
        """Let workers take jobs again; see `Client.resume_queue`."""
        return self.ask(lambda client: client.resume_queue(queue))

    def purge_queue(self, queue: str) -> int:
        """Cancel all jobs that wait in a queue; see `Client.purge_queue`."""
        return self.ask(lambda client: client.purge_queue(queue))

    def queues(self) -> Sequence[QueueRecord]:
        """Every queue that was ever used; see `Client.queues`."""
        return self.ask(lambda client: client.queues())

    def workers(self) -> Sequence[WorkerRecord]:
        """The workers whose heartbeat is fresh; see `Client.workers`."""
        return self.ask(lambda client: client.workers())


class SyncClient(SyncCalls):
    """What `Client` does, for callers that cannot await; it works beside a running loop too.

        with SyncClient("redis://localhost") as client:
            handle = send_email.enqueue_sync("ada@example.com", subject="Hello")
            print(handle.result(timeout=30))

    Between `open` and `close`, or in its `with` block, `enqueue_sync` of the registry's jobs uses it. One thread with
    an event loop, started by the first call, does the work for all threads that call. In a process that was forked it
    begins anew by itself. A call that waits may be interrupted with Ctrl-C, and ends with `ClientClosed` where the
    client is closed meanwhile; at the end of the process that happens by itself.
    """

    def __init__(
        self,
        url: str,
        *,
        registry: Registry = default_registry,
        size: int = 50,
        verify_tls: bool = True,
        budget: float = 5.0,
        max_arguments: int = wire.LARGEST,
    ) -> None:
        """The options are those of `Client.open`; nothing is connected before the first call."""
        options = {"size": size, "verify_tls": verify_tls, "budget": budget, "max_arguments": max_arguments}
        self._portal: Portal[Client] = Portal(lambda: Client.open(url, **options))  # type: ignore[arg-type]
        self._registry = registry
        self._binding: Binding[SyncProducer] | None = None

    def open(self) -> Self:
        """Let `enqueue_sync` use this client, until `close`: at the start of an application."""
        self._portal.open()
        if self._binding is None:
            self._binding = self._registry.bind_sync(self)
        return self

    def close(self) -> None:
        """Close the connections, and end the thread; what is under way is broken off."""
        binding, self._binding = self._binding, None
        if binding is not None:
            self._registry.unbind_sync(binding)
        self._portal.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, ask: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        """Ask the `Client` anything in its own loop; see `SyncCalls.ask`."""
        return self._portal.ask(ask)


class _Lent(SyncCalls):
    """For other threads of a process whose loop has a client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def ask(self, ask: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        if threading.get_ident() == self._thread:
            raise EmbarqError(OWN_LOOP)
        return awaited(asyncio.run_coroutine_threadsafe(ask(self._client), self._loop), self._loop.is_running)


def lent(client: Client, registry: Registry) -> AbstractContextManager[None]:
    """In the block, `enqueue_sync` of the registry's jobs uses the client of this loop where it is called in another
    thread, as by jobs that are plain functions; not where a `SyncClient` is open."""
    return registry.lent(_Lent(client))


async def _enqueue_many(calls: Sequence[Call[R]], client: Client) -> list[JobHandle[R]]:
    return await client.enqueue_many(calls)
