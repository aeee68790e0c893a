"""A handle on an enqueued job: its id, and the ways to ask after it."""

from typing import Generic, Protocol, TypeVar, cast

from worker.errors import JobFailed
from worker.job import Job, State

R = TypeVar("R")


class Lookup(Protocol):
    """Whoever can find jobs: the client."""

    async def find(self, job_id: str) -> Job:
        """The job as it is now."""
        ...

    async def wait_for(self, job_id: str, timeout: float | None = None) -> Job:
        """The job once it has ended, or as it is after `timeout` seconds."""
        ...

    async def cancel(self, job_id: str) -> State:
        """Cancel the job; returns the state that it is in now."""
        ...


class JobHandle(Generic[R]):
    """An enqueued job. `created` is False when a job with this id was there already."""

    __slots__ = ("_lookup", "created", "id")

    def __init__(self, job_id: str, lookup: Lookup, *, created: bool) -> None:
        self.id = job_id
        self.created = created
        self._lookup = lookup

    async def job(self) -> Job:
        """The job as it is now.

        Raises:
            JobNotFound: it ended and its result is no longer kept.
        """
        return await self._lookup.find(self.id)

    async def cancel(self) -> State:
        """Cancel the job; see `Client.cancel`."""
        return await self._lookup.cancel(self.id)

    async def result(self, timeout: float | None = None) -> R:
        """Wait for the end and return what the job returned, as JSON gave it back.

        Raises:
            TimeoutError: it has not ended after `timeout` seconds.
            JobFailed: it failed, was cancelled or expired.
        """
        job = await self._lookup.wait_for(self.id, timeout)
        if not job.state.ended:
            raise TimeoutError(f"job {self.id} is {job.state} after {timeout} s")
        if job.state is not State.SUCCEEDED:
            reason = f": {job.error.type}: {job.error.message}" if job.error else ""
            raise JobFailed(f"job {self.id} {job.state}{reason}")
        return cast(R, job.result)

    def __repr__(self) -> str:
        return f"<job {self.id}>"
