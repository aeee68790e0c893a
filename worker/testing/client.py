"""The client of one test: it queues jobs into queues of the test's own, under ids of its own, and records them."""

import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from worker.broker.budget import Budget
from worker.broker.queue_store import EnqueueResult, NewJob
from worker.broker.workflow_records import NewWorkflow
from worker.broker.workflow_store import WorkflowStore
from worker.client import Client
from worker.client.diagnosis import Reason
from worker.core import keys
from worker.core.job import Job, Priority, State
from worker.core.workflow import Workflow
from worker.testing.enqueued import Enqueued, of_job, of_workflow
from worker.testing.ids import Ids
from worker.testing.tag import Tag


class TaggedClient(Client):
    """A client for one test. It takes and returns names of queues and ids as the code under test has them; `enqueued`
    has them so, too. `ids`: what those are in Redis. `made`: the jobs as Redis got them. `named`: the queues that were
    used, by their names in Redis. `notes`: keys that its workers may leave."""

    def __init__(self, url: str, *, budget: float = 5.0, **options: Any) -> None:
        """See `Client`."""
        super().__init__(url, budget=budget, **options)
        self._url = url
        self.tag = Tag(f"t{secrets.token_hex(5)}")
        self.ids = Ids(self.tag.text)
        self.enqueued: list[Enqueued] = []
        self.made: list[NewJob | NewWorkflow] = []
        self.named: set[str] = set()
        self.notes: set[str] = set()
        self.workflow_store = _TaggedWorkflowStore(self, self._budget)

    @asynccontextmanager
    async def beside(self) -> AsyncIterator["TaggedClient"]:
        """A client in another loop, for the same test."""
        async with TaggedClient.open(self._url) as client:
            client.tag, client.ids, client.enqueued = self.tag, self.ids, self.enqueued
            client.made, client.named, client.notes = self.made, self.named, self.notes
            yield client

    async def _enqueue(self, jobs: Sequence[NewJob]) -> list[EnqueueResult]:
        tagged = [self.tag.job(job, self.ids) for job in jobs]
        self.made += tagged
        placed = await super()._enqueue(tagged)
        self.enqueued += [of_job(job) for job, each in zip(jobs, placed, strict=True) if each.created]
        return [each._replace(id=self.ids.said(each.id)) for each in placed]

    def _stored_id(self, job_id: str) -> str:
        return self.ids.own(job_id)

    async def find(self, job_id: str) -> Job:
        """The test's own job of this id."""
        return self._told(await super().find(self.ids.own(job_id)))

    async def wait_for(self, job_id: str, timeout: float | None = None) -> Job:
        """The test's own job of this id, once it has ended."""
        return self._told(await super().wait_for(self.ids.own(job_id), timeout))

    async def cancel(self, job_id: str) -> State:
        """Cancel the test's own job of this id."""
        return await super().cancel(self.ids.own(job_id))

    async def why(self, job_id: str) -> list[Reason]:
        """Why the test's own job of this id waits."""
        return await super().why(self.ids.own(job_id))

    async def workflow(self, workflow_id: str) -> Workflow:
        """The test's own workflow of this id."""
        found = await super().workflow(self.ids.own(workflow_id))
        steps = [
            step if step.job_id is None else replace(step, job_id=self.ids.said(step.job_id)) for step in found.steps
        ]
        return replace(found, id=self.ids.said(found.id), steps=tuple(steps))

    async def wait_for_workflow(self, workflow_id: str, timeout: float | None = None) -> Workflow:
        """The test's own workflow of this id, once it has ended."""
        return await super().wait_for_workflow(self.ids.own(workflow_id), timeout)

    async def cancel_workflow(self, workflow_id: str) -> None:
        """Cancel the test's own workflow of this id."""
        await super().cancel_workflow(self.ids.own(workflow_id))

    async def retry_workflow(self, workflow_id: str) -> None:
        """Resume the test's own workflow of this id."""
        await super().retry_workflow(self.ids.own(workflow_id))

    def _told(self, job: Job) -> Job:
        workflow_id = None if job.workflow_id is None else self.ids.said(job.workflow_id)
        return replace(job, id=self.ids.said(job.id), workflow_id=workflow_id)

    def queue(self, name: str) -> str:
        """The name of a queue in Redis."""
        own = self.tag.queue(name)
        self.named.add(own)
        return own

    async def holds_jobs(self, queues: Iterable[str]) -> bool:
        """Whether jobs wait in queues, by their names in Redis, or steps of a workflow are still to be queued."""
        levels = [keys.queue_key(queue, priority) for queue in queues for priority in Priority]
        return bool(await self.redis.execute_command("EXISTS", keys.UNFINISHED, *levels))

    async def pause_queue(self, queue: str) -> bool:
        """Pause the test's own queue of this name."""
        return await super().pause_queue(self.queue(queue))

    async def resume_queue(self, queue: str) -> bool:
        """Resume the test's own queue of this name."""
        return await super().resume_queue(self.queue(queue))

    async def purge_queue(self, queue: str) -> int:
        """Purge the test's own queue of this name."""
        return await super().purge_queue(self.queue(queue))


class _TaggedWorkflowStore(WorkflowStore):
    def __init__(self, client: TaggedClient, budget: Budget) -> None:
        super().__init__(client.redis, budget)
        self._client = client

    async def start(self, new: NewWorkflow) -> bool:
        tagged = self._client.tag.workflow(new, self._client.ids)
        self._client.made.append(tagged)
        created = await super().start(tagged)
        if created:
            self._client.enqueued += of_workflow(new)
        return created
