"""Handles on what was enqueued, for callers without an event loop."""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from worker.core.handle import JobHandle, WorkflowHandle
from worker.core.job import Job, State
from worker.core.workflow import Workflow

if TYPE_CHECKING:
    from worker.core.queue_client import Lookup

R = TypeVar("R")
T = TypeVar("T")


class Asker(Protocol):
    """Whoever asks a client in the loop of another thread: the sync client."""

    def ask(self, ask: Callable[["Lookup"], Coroutine[Any, Any, T]]) -> T:
        """What `ask` gives."""
        ...


class SyncJobHandle(Generic[R]):
    """An enqueued job, or one whose id is known: `SyncJobHandle[int](job_id, client)`; see `JobHandle`."""

    __slots__ = ("_asker", "created", "id")

    def __init__(self, job_id: str, asker: Asker, *, created: bool = False) -> None:
        self.id = job_id
        self.created = created
        self._asker = asker

    def job(self) -> Job:
        """The job as it is now; raises as `JobHandle.job`."""
        return self._asker.ask(lambda client: client.find(self.id))

    def state(self) -> State:
        """Where the job is in its life; raises as `job`."""
        return self.job().state

    def cancel(self) -> State:
        """Cancel the job; see `Client.cancel`."""
        return self._asker.ask(lambda client: client.cancel(self.id))

    def wait(self, timeout: float | None = None) -> Job:
        """The job once it has ended, or as it is after `timeout` seconds; see `Client.wait_for`."""
        return self._asker.ask(lambda client: client.wait_for(self.id, timeout))

    def result(self, timeout: float | None = None) -> R:
        """Wait for the end and return what the job returned; raises as `JobHandle.result`."""
        return self._asker.ask(lambda client: JobHandle[R](self.id, client).result(timeout))

    def __repr__(self) -> str:
        return f"<job {self.id}>"


class SyncWorkflowHandle:
    """A started workflow; see `WorkflowHandle`."""

    __slots__ = ("_asker", "created", "id")

    def __init__(self, workflow_id: str, asker: Asker, *, created: bool = False) -> None:
        self.id = workflow_id
        self.created = created
        self._asker = asker

    def workflow(self) -> Workflow:
        """The workflow as it is now; see `Client.workflow`."""
        return self._asker.ask(lambda client: client.workflow(self.id))

    def wait(self, timeout: float | None = None) -> Workflow:
        """The workflow once it has ended, or as it is after `timeout` seconds; see `Client.wait_for_workflow`."""
        return self._asker.ask(lambda client: client.wait_for_workflow(self.id, timeout))

    def cancel(self) -> None:
        """Cancel all of it; see `Client.cancel_workflow`."""
        self._asker.ask(lambda client: client.cancel_workflow(self.id))

    def retry(self) -> None:
        """Resume it from where it failed; see `Client.retry_workflow`."""
        self._asker.ask(lambda client: client.retry_workflow(self.id))

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the end and return the value of the last step; raises as `WorkflowHandle.result`."""
        return self._asker.ask(lambda client: WorkflowHandle(self.id, client, created=False).result(timeout))

    def __repr__(self) -> str:
        return f"<workflow {self.id}>"
