"""The client of the queue, as those below it know it: jobs, their registry, and the wings that stand in for it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol, TypeVar

from redis.asyncio import Redis

from worker.core.calls import Call
from worker.core.declared import Outbox
from worker.core.handle import JobHandle, WorkflowHandle
from worker.core.job import Job, State
from worker.core.sync_handle import SyncJobHandle, SyncWorkflowHandle
from worker.core.workflow import Workflow
from worker.core.workflow_graph import Flow, WorkflowOptions

if TYPE_CHECKING:
    from arq.connections import ArqRedis

R = TypeVar("R")


class Lookup(Protocol):
    """Whoever can find jobs and workflows, which handles ask."""

    async def find(self, job_id: str) -> Job:
        """The job as it is now."""
        ...

    async def wait_for(self, job_id: str, timeout: float | None = None) -> Job:
        """The job once it has ended, or as it is after `timeout` seconds."""
        ...

    async def cancel(self, job_id: str) -> State:
        """Cancel the job; returns the state that it is in now."""
        ...

    async def workflow(self, workflow_id: str) -> Workflow:
        """The workflow as it is now."""
        ...

    async def wait_for_workflow(self, workflow_id: str, timeout: float | None = None) -> Workflow:
        """The workflow once it has ended, or as it is after `timeout` seconds."""
        ...

    async def cancel_workflow(self, workflow_id: str) -> None:
        """Cancel all of it."""
        ...

    async def retry_workflow(self, workflow_id: str) -> None:
        """Let it go on from where it failed."""
        ...


class Producer(Protocol):
    """Whoever puts calls into a queue."""

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
    """The same for callers that cannot await."""

    def enqueue(self, call: Call[R]) -> SyncJobHandle[R]:
        """Queue one call and return a handle on its job."""
        ...

    def start(self, flow: Flow, options: WorkflowOptions) -> SyncWorkflowHandle:
        """Start a workflow and return a handle on it."""
        ...


class QueueClient(Producer, Lookup, Protocol):
    """What `ctx.client` offers to jobs: see the methods of `Client`, which it is."""

    @property
    def redis(self) -> Redis:
        """The connections to Redis, with redis-py's commands."""
        ...

    @property
    def arq(self) -> "ArqRedis":
        """The client for code that was written for arq."""
        ...

    async def enqueue_many(self, calls: Iterable[Call[R]]) -> list[JobHandle[R]]:
        """Queue many calls, a thousand a round trip; handles in the order of the calls."""
        ...

    async def pause_queue(self, queue: str) -> bool:
        """Let no worker take jobs from a queue until `resume_queue`; False when it was paused already."""
        ...

    async def resume_queue(self, queue: str) -> bool:
        """Let workers take jobs again; False when it was not paused."""
        ...

    async def purge_queue(self, queue: str) -> int:
        """Cancel all jobs that wait in a queue, also deferred ones; how many there were."""
        ...
