"""Handles on what was enqueued, a job or a workflow: its id, and the ways to ask after it."""

import re
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from worker.core.errors import JobFailed, WorkflowFailed, in_words
from worker.core.job import Job, JobError, State
from worker.core.raised import rebuilt
from worker.core.workflow import Workflow, WorkflowState

if TYPE_CHECKING:
    from worker.core.queue_client import Lookup

R = TypeVar("R")

# The head of a message where another one follows; releases before said `job x cancelled`.
_WITHIN = re.compile(r"\Ajob \S+ (?:was )?\w+: (?=job \S+ (?:was )?\w+: )")


class WorkflowHandle:
    """A started workflow, or one whose id is known: `WorkflowHandle(workflow_id, client)`.

    `created` is False when one with this id was there already.
    """

    __slots__ = ("_lookup", "created", "id")

    def __init__(self, workflow_id: str, lookup: "Lookup", *, created: bool = False) -> None:
        self.id = workflow_id
        self.created = created
        self._lookup = lookup

    async def workflow(self) -> Workflow:
        """The workflow as it is now; see `Client.workflow`."""
        return await self._lookup.workflow(self.id)

    async def cancel(self) -> None:
        """Cancel all of it; see `Client.cancel_workflow`."""
        await self._lookup.cancel_workflow(self.id)

    async def retry(self) -> None:
        """Resume it from where it failed; see `Client.retry_workflow`."""
        await self._lookup.retry_workflow(self.id)

    async def result(self, timeout: float | None = None) -> Any:
        """Wait for the end and return the value of the last step; for a group, a list.

        Raises:
            TimeoutError: it has not ended after `timeout` seconds.
            WorkflowFailed: it failed or was cancelled.
        """
        workflow = await self._lookup.wait_for_workflow(self.id, timeout)
        if not workflow.state.ended:
            raise TimeoutError(f"workflow {self.id} is still {workflow.state} after {timeout} s")
        if workflow.state is not WorkflowState.SUCCEEDED:
            reason = f": {workflow.error.type}: {workflow.error.message}" if workflow.error else ""
            raise WorkflowFailed(f"workflow {self.id} {in_words(workflow.state)}{reason}")
        return workflow.result

    def __repr__(self) -> str:
        return f"<workflow {self.id}>"


class JobHandle(Generic[R]):
    """An enqueued job, or one whose id is known, as from a database: `JobHandle[int](job_id, client)`. Its methods
    raise `JobNotFound` where there is no such job.

    `created` is False when a job with this id was there already.
    """

    __slots__ = ("_lookup", "created", "id")

    def __init__(self, job_id: str, lookup: "Lookup", *, created: bool = False) -> None:
        self.id = job_id
        self.created = created
        self._lookup = lookup

    async def job(self) -> Job:
        """The job as it is now.

        Raises:
            JobNotFound: it ended and its result is no longer kept.
        """
        return await self._lookup.find(self.id)

    async def state(self) -> State:
        """Where the job is in its life; raises as `job`."""
        return (await self.job()).state

    async def cancel(self) -> State:
        """Cancel the job; see `Client.cancel`."""
        return await self._lookup.cancel(self.id)

    async def result(self, timeout: float | None = None) -> R:
        """Wait for the end and return what the job returned, as JSON gave it back.

        Raises:
            TimeoutError: it has not ended after `timeout` seconds.
            JobNotFound: there is none, or its result is no longer kept.
            JobFailed: it failed, was cancelled or expired. Its `__cause__` is an exception of the class that the job
                raised, with its arguments, where this process has loaded that class.
        """
        job = await self._lookup.wait_for(self.id, timeout)
        if not job.state.ended:
            raise TimeoutError(f"job {self.id} is still {job.state} after {timeout} s")
        if job.state is not State.SUCCEEDED:
            reason = f": {_reason(job.error)}" if job.error else ""
            raise JobFailed(f"job {self.id} {in_words(job.state)}{reason}") from rebuilt(job.error)
        return cast(R, job.result)

    def __repr__(self) -> str:
        return f"<job {self.id}>"


def _reason(error: JobError) -> str:
    """What an error says. Where jobs failed because a job that they waited for did, only the last one is named."""
    if error.type != JobFailed.__name__:
        return f"{error.type}: {error.message}"
    return _WITHIN.sub("", error.message, count=1)
