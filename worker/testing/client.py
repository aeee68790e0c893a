"""The client of one test: what it queues goes to queues of the test's own, and is remembered."""

import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from worker.broker import keys
from worker.broker.broker import NewJob, Placed
from worker.broker.budget import Budget
from worker.broker.graphs import Graphs, NewWorkflow
from worker.client import Client
from worker.job import Priority
from worker.testing.enqueued import Enqueued, of_job, of_workflow
from worker.testing.tag import Tag


class TaggedClient(Client):
    """A client for one test. It takes names of queues as the code under test says them, and `enqueued` has them so.
    `made`: the same as Redis got it. `named`: the queues that it came by, by their names in Redis. `notes`: keys that
    its workers may leave."""

    def __init__(self, url: str, *, budget: float = 5.0, **options: Any) -> None:
        """See `Client`."""
        super().__init__(url, budget=budget, **options)
        self._url = url
        self.tag = Tag(f"t{secrets.token_hex(5)}")
        self.enqueued: list[Enqueued] = []
        self.made: list[NewJob | NewWorkflow] = []
        self.named: set[str] = set()
        self.notes: set[str] = set()
        self.graphs = _TaggedGraphs(self, Budget(budget))

    @asynccontextmanager
    async def beside(self) -> AsyncIterator["TaggedClient"]:
        """One in another loop, for the same test."""
        async with TaggedClient.open(self._url) as client:
            client.tag, client.enqueued, client.made = self.tag, self.enqueued, self.made
            client.named, client.notes = self.named, self.notes
            yield client

    async def _enqueue(self, jobs: Sequence[NewJob]) -> list[Placed]:
        tagged = [self.tag.job(job) for job in jobs]
        self.made += tagged
        placed = await super()._enqueue(tagged)
        self.enqueued += [of_job(job) for job, each in zip(jobs, placed, strict=True) if each.created]
        return placed

    def queue(self, name: str) -> str:
        """What a queue is called in Redis."""
        own = self.tag.queue(name)
        self.named.add(own)
        return own

    async def holds_jobs(self, queues: Iterable[str]) -> bool:
        """Whether something waits in queues, by their names in Redis, or is left of a workflow to be queued."""
        levels = [keys.queue_key(queue, priority) for queue in queues for priority in Priority]
        return bool(await self.execute_command("EXISTS", keys.UNFINISHED, *levels))

    async def pause_queue(self, queue: str) -> bool:
        """Pause the test's own queue of this name."""
        return await super().pause_queue(self.queue(queue))

    async def resume_queue(self, queue: str) -> bool:
        """Resume the test's own queue of this name."""
        return await super().resume_queue(self.queue(queue))

    async def purge_queue(self, queue: str) -> int:
        """Purge the test's own queue of this name."""
        return await super().purge_queue(self.queue(queue))


class _TaggedGraphs(Graphs):
    def __init__(self, client: TaggedClient, budget: Budget) -> None:
        super().__init__(client, budget)
        self._client = client

    async def start(self, new: NewWorkflow) -> bool:
        tagged = self._client.tag.workflow(new)
        self._client.made.append(tagged)
        created = await super().start(tagged)
        if created:
            self._client.enqueued += of_workflow(new)
        return created
