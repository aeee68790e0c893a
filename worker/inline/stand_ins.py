"""The stand-ins of inline mode for the parts of a client that talk to Redis."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from redis.asyncio import Redis

from worker.broker.budget import Budget
from worker.broker.completions import Completions
from worker.broker.exchange import Claimed
from worker.broker.inspect import Inspector, LookUp, QueueRecord, WorkerRecord
from worker.broker.job_facts import JobFacts
from worker.broker.pool import Pool, QuickConnection
from worker.broker.queue_store import Cancelled, QueueStore, Step, StepAction
from worker.broker.server import ServerFacts
from worker.broker.workflow_records import FoundWorkflow, NewWorkflow
from worker.broker.workflow_store import WorkflowStore
from worker.core import wire
from worker.core.errors import NotInline
from worker.inline.memory import Entry
from worker.inline.queue import InlineQueue
from worker.inline.runner import WORKER, Runner


class NoRedis(Pool):
    """A pool without connections: whatever still asks Redis gets an error."""

    def __init__(self) -> None:
        super().__init__(max_connections=1, timeout=0)

    async def get_connection(self, *_: object, **__: object) -> QuickConnection:
        """There is none.

        Raises:
            NotInline: always.
        """
        raise NotInline("this needs Redis, and inline mode (EMBARQ_INLINE=1) has none: run a worker")


class InlineQueueStore(QueueStore):
    """Cancels jobs, and keeps the records of their steps."""

    def __init__(self, redis: Redis, queue: InlineQueue) -> None:
        super().__init__(redis)
        self._queue = queue

    async def cancel(self, job_id: str, ttl_ms: int | None) -> Cancelled:
        """Cancel a job; see `QueueStore.cancel`. A workflow's job that has not run yet ends when its turn comes."""
        entry = self._queue.memory.find(job_id)
        if entry is None:
            return Cancelled.UNKNOWN
        if entry.has_ended:
            return Cancelled.ENDED
        return Cancelled.CANCELLING if entry.stop() else Cancelled.CANCELLED

    async def once(
        self, key: str, claimed: Claimed, action: StepAction, *, value: bytes = b"", keep_ms: int
    ) -> tuple[Step, bytes]:
        """Begin or end a step that is to run once; see `QueueStore.once`."""
        return self._queue.steps.once(key, claimed, action, value, keep_ms)


class InlineWorkflowStore(WorkflowStore):
    """Runs workflows. `runner`: gives the runner of this loop."""

    def __init__(self, redis: Redis, budget: Budget, queue: InlineQueue, runner: Callable[[], Runner]) -> None:
        super().__init__(redis, budget)
        self._queue = queue
        self._runner = runner

    async def start(self, new: NewWorkflow) -> bool:
        """Run a workflow; False when its id is taken."""
        return await self._queue.start(self._runner(), new)

    async def retry(self, workflow_id: str) -> str:
        """Run what did not succeed; see `Graphs.retry`."""
        return await self._queue.retry(self._runner(), workflow_id)

    async def cancel(self, workflow_id: str) -> str:
        """End a workflow; see `Graphs.cancel`."""
        return self._queue.cancel_flow(workflow_id)

    async def find(self, workflow_id: str) -> FoundWorkflow | None:
        """The workflow as it is, if there is one."""
        flowing = self._queue.memory.find_flow(workflow_id)
        return None if flowing is None else flowing.flow.found(self._queue.under_way(flowing))

    async def state(self, workflow_id: str) -> str | None:
        """Its state alone, if there is one."""
        flowing = self._queue.memory.find_flow(workflow_id)
        return None if flowing is None else flowing.flow.state

    async def value(self, workflow_id: str, node: int) -> bytes | None:
        """The value of a node as JSON; None when it is not there."""
        flowing = self._queue.memory.find_flow(workflow_id)
        return None if flowing is None else flowing.flow.value(node)

    async def cause(self, workflow_id: str, handler: int) -> bytes | None:
        """The failure that started a handler, as JSON."""
        flowing = self._queue.memory.find_flow(workflow_id)
        return None if flowing is None else flowing.flow.causes.get(handler)


class InlineInspector(Inspector):
    """Looks jobs up in memory. There are no queues, and no workers but this process."""

    def __init__(self, redis: Redis, queue: InlineQueue, *, unread: bool = False) -> None:
        super().__init__(redis, unread=unread)
        self._queue = queue

    def unread(self) -> "InlineInspector":
        """An inspector for those who only pass results on."""
        return InlineInspector(self._redis, self._queue, unread=True)

    async def look_up(self, job_id: str) -> LookUp:
        """What is known of a job."""
        entry = self._queue.memory.find(job_id)
        return _nothing() if entry is None else _known(entry)

    async def why(self, job_id: str) -> JobFacts:
        """What a job waits for: nothing."""
        return JobFacts(time.time() * 1000)

    async def workers(self) -> list[WorkerRecord]:
        """None."""
        return []

    async def queues(self) -> list[QueueRecord]:
        """None: whatever is enqueued has run."""
        return []

    async def server(self) -> ServerFacts:
        """Facts that give no reason to warn."""
        return ServerFacts("none: inline mode", None, "0", 0, (), evicts=False, policy="noeviction", persists=True)


class InlineCompletions(Completions):
    """Notifies those who wait for a job of this process that it has ended."""

    def __init__(self, pool: Pool, queue: InlineQueue) -> None:
        super().__init__(pool)
        self._queue = queue

    @contextmanager
    def watch(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when the job ends; see `Ends.watch`."""
        with self._queue.waiters.watch(job_id) as event:
            yield event


def _nothing() -> LookUp:
    return b"0", b"", b"", b"", 0, b"-1", b"", b"", b"", ()


def _known(entry: Entry) -> LookUp:
    """What the look-up script returns."""
    now_ms = time.time_ns() // 1_000_000
    now, run = b"%d" % now_ms, entry.run
    if entry.has_ended:
        return now, entry.result, b"", b"", 0, b"-1", b"", b"", b"", entry.past
    due, queue = now, entry.new.queue_key.encode()
    if run is None:
        record = b"retry %s 0 0" % WORKER.encode() if entry.tries else b""
        return now, b"", entry.payload, b"", entry.tries, due, queue, record, b"", entry.past
    record = b"running %s %d 0" % (WORKER.encode(), run.claimed.claimed_ms)
    progress = wire.progress_record(run.context.last_progress)
    told = b"" if progress is None else wire.dumps(progress)
    return now, b"", entry.payload, run.claimed.token.encode(), entry.tries, due, queue, record, told, entry.past
