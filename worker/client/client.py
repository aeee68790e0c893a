"""The producer's side: enqueue, look up, wait, cancel; workflows and queues. What plain arq's code is handed is in
`arq_compat`."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import cached_property, partial
from types import TracebackType
from typing import Self, TypeVar, cast

from redis.asyncio import Redis

from worker.broker.batcher import Batcher, send_apart
from worker.broker.budget import Budget
from worker.broker.completions import Completions
from worker.broker.encoding import new_id, pack, pack_workflow
from worker.broker.inspect import Inspector, QueueRecord, WorkerRecord
from worker.broker.opening import make_pool, thread_client
from worker.broker.pool import Pool
from worker.broker.queue_store import Cancelled, EnqueueResult, NewJob, QueueStore
from worker.broker.schedule_store import ScheduleStore
from worker.broker.workflow_records import NewWorkflow, read_workflow
from worker.broker.workflow_store import WorkflowStore, undamaged
from worker.client.arq_compat import ArqAdapter
from worker.client.bulks import in_bulks, send_in_turn
from worker.client.diagnosis import Reason, reasons
from worker.client.polling import poll_until_ended
from worker.core import wire
from worker.core.calls import Call, refusal
from worker.core.declared import Outbox
from worker.core.errors import (
    JobEnded,
    JobNotFound,
    WorkflowEnded,
    WorkflowNotFound,
)
from worker.core.handle import JobHandle, WorkflowHandle
from worker.core.inline_mode import inline_process, is_inline
from worker.core.job import Job, State
from worker.core.options import CALLBACKS
from worker.core.signature import Signature
from worker.core.workflow import Workflow, WorkflowState
from worker.core.workflow_graph import Flow, WorkflowOptions, compile_graph, signatures

R = TypeVar("R")
T = TypeVar("T")

LARGE_FLOW = 200  # steps; a flow with more is packed in a thread, while others have the loop
CANCELLED_KEPT_MS = 3_600_000


class Client:
    """What queues jobs and asks after them. `redis`: the connections to Redis below it, with redis-py's commands.
    `outbox`: where calls of `enqueue_in` go instead of the database's table.

    It is used as `async with`, or closed by `aclose`. All methods of its own raise `BrokerUnavailable` when Redis has
    not answered within the budget. Whatever queues something tries three times under the same id in it, so a job is
    queued once however often the connection is cut.
    """

    outbox: Outbox | None = None

    def __init__(
        self,
        url: str,
        *,
        size: int = 50,
        verify_tls: bool = True,
        budget: float = 5.0,
        max_arguments: int = wire.LARGEST,
    ) -> None:
        """`size`: connections at most. `budget`: seconds for each question to Redis, all its tries together; what takes
        several, as a large workflow, has as much for each. `max_arguments`: bytes that a call may take as JSON."""
        self.connections = self._connect(url, size=size, verify_tls=verify_tls)
        self.redis = Redis(connection_pool=self.connections)
        self.max_arguments = max_arguments
        self.queue_store = QueueStore(self.redis)
        self._budget = Budget(budget)
        self.workflow_store = WorkflowStore(self.redis, self._budget)
        self.schedules = ScheduleStore(self.redis)
        self.inspector = Inspector(self.redis)
        self.for_thread = partial(thread_client, url, verify_tls=verify_tls)
        self._completions = Completions(self.connections)
        self._batcher = Batcher(self._enqueue, budget)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str,
        *,
        size: int = 50,
        verify_tls: bool = True,
        budget: float = 5.0,
        max_arguments: int = wire.LARGEST,
    ) -> AsyncIterator[Self]:
        """A client that connects when it is first used, and closes its connections on leaving.

        With `EMBARQ_INLINE=1` it connects to nothing: jobs run in this process (`worker.inline`).
        """
        if cls is Client and is_inline():
            async with inline_process().open_client(max_arguments) as stand_in:
                yield cast(Self, stand_in)
            return
        async with cls(url, size=size, verify_tls=verify_tls, budget=budget, max_arguments=max_arguments) as client:
            yield client

    async def aclose(self) -> None:
        """Send what is being enqueued, and close the connections."""
        await self._batcher.close()
        await self._completions.close()
        await self.connections.disconnect()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @cached_property
    def arq(self) -> ArqAdapter:
        """This client for code that was written for arq: a real `ArqRedis`, on the same connections."""
        return ArqAdapter(self.connections, self._batcher.add, self._stored_id, max_arguments=self.max_arguments)

    async def enqueue(self, call: Call[R]) -> JobHandle[R]:
        """Queue one call; the handle's `created` is False when a job that stands for it was there already.

        Raises:
            InvalidArguments: it takes more bytes than `max_arguments`.
        """
        if call.options.get("durable"):
            raise refusal(call, "durable", "is for enqueue_in, whose transaction keeps the job")
        if any(name in call.options for name in CALLBACKS):
            return await self._enqueue_with_callbacks(call)
        placed = await self._batcher.add(pack(call, self.max_arguments))
        return JobHandle(placed.id, self, created=placed.created)

    async def _enqueue_with_callbacks(self, call: Call[R]) -> JobHandle[R]:
        """A job with callbacks is a small workflow, whose id is the job's."""
        signature: Signature[R] = Signature(call.definition, (), call.arguments, call.options, immutable=True)
        single = call.options.get("id") or new_id()
        new = pack_workflow(compile_graph(signature), {}, single=single, most=self.max_arguments)
        return JobHandle(new.id, self, created=await self.workflow_store.start(new))

    async def enqueue_many(self, calls: Iterable[Call[R]]) -> list[JobHandle[R]]:
        """Queue many calls, a thousand a round trip (fewer of large ones); handles in the order of the calls.

        Calls with ids of their own may be given again after an error.

        Raises:
            InvalidOptions: a call has callbacks; these take a workflow.
            InvalidArguments: a call takes more bytes than `max_arguments`; what came before its thousand is queued.
            BrokerUnavailable: Redis did not answer; what came before that thousand is queued, of it any part, and
                nothing behind. So it is where the caller is cancelled.
            Exception: Redis refused a call; the first such one is named in a note. All others of its thousand are
                queued, and what came before, but nothing behind. What `calls` raises itself is passed on, once what
                came before that thousand is queued.
        """
        return await send_in_turn(in_bulks(calls, self.max_arguments), self._enqueue_together)

    async def _enqueue_together(self, jobs: Sequence[NewJob]) -> list[JobHandle[R]]:
        handles: list[JobHandle[R]] = []
        for job, outcome in zip(jobs, await send_apart(self._enqueue, jobs), strict=True):
            if isinstance(outcome, Exception):
                outcome.add_note(f"refused: the job {job.id!r}")
                raise outcome
            handles.append(JobHandle(outcome.id, self, created=outcome.created))
        return handles

    async def _enqueue(self, jobs: Sequence[NewJob]) -> list[EnqueueResult]:
        return await self._budget.persist(lambda: self.queue_store.enqueue(jobs))

    async def start(self, flow: Flow, options: WorkflowOptions) -> WorkflowHandle:
        """Start a workflow; the handle's `created` is False when its id was taken already.

        Raises:
            InvalidWorkflow: it is empty, too large, or a step cannot be placed.
            InvalidArguments: a step's arguments do not fit its job, or take more bytes than `max_arguments`.
        """
        is_large = next(itertools.islice(signatures(flow), LARGE_FLOW, None), None) is not None
        pack_it = partial(_pack_flow, flow, options, self.max_arguments)
        new = await asyncio.to_thread(pack_it) if is_large else pack_it()
        return WorkflowHandle(new.id, self, created=await self.workflow_store.start(new))

    async def workflow(self, workflow_id: str) -> Workflow:
        """A workflow with the state of each of its nodes, and its result once it succeeded.

        Raises:
            WorkflowNotFound: there is none, or it is no longer kept.
        """
        with undamaged(workflow_id):
            found = await self.workflow_store.find(workflow_id)
            if found is None:
                raise WorkflowNotFound(workflow_id)
            told = found.fields["state"] in {WorkflowState.SUCCEEDED, WorkflowState.FAILED}
            node = int(found.fields.get("failed", found.fields["last"]))
            value = await self.workflow_store.value(workflow_id, node) if told else None
            return read_workflow(workflow_id, found, value)

    async def wait_for_workflow(self, workflow_id: str, timeout: float | None = None) -> Workflow:
        """A workflow once it has ended, or as it is after `timeout` seconds; raises as `workflow`."""

        async def look() -> WorkflowState:
            state = await self.workflow_store.state(workflow_id)
            if state is None:
                raise WorkflowNotFound(workflow_id)
            with undamaged(workflow_id):
                return WorkflowState(state)

        await self._wait(workflow_id, timeout, look, lambda state: state.ended)
        return await self.workflow(workflow_id)

    async def cancel_workflow(self, workflow_id: str) -> None:
        """Cancel all of a workflow that has not ended: what waits at once, what runs within seconds. It may be
        asked for again after an error.

        Raises:
            WorkflowNotFound: there is none, or it is no longer kept.
            WorkflowEnded: it is too late.
        """
        answer = await self.workflow_store.cancel(workflow_id)
        if answer == "unknown":
            raise WorkflowNotFound(workflow_id)
        if answer == "ended":
            raise WorkflowEnded(workflow_id, await self.workflow_store.state(workflow_id) or "forgotten")

    async def retry_workflow(self, workflow_id: str) -> None:
        """Let a workflow that failed or was cancelled go on from there: what ended well keeps its results. It may be
        asked for again after an error.

        Raises:
            WorkflowNotFound: there is none, or it is no longer kept.
            WorkflowEnded: it has succeeded.
        """
        answer = await self.workflow_store.retry(workflow_id)
        if answer == "unknown":
            raise WorkflowNotFound(workflow_id)
        if answer == "succeeded":
            raise WorkflowEnded(workflow_id, answer)

    async def find(self, job_id: str) -> Job:
        """The job as it is now.

        Raises:
            JobNotFound: there is none, or its result is no longer kept.
        """
        return await self._budget.persist(lambda: self.inspector.find(job_id))

    async def wait_for(self, job_id: str, timeout: float | None = None) -> Job:
        """The job once it has ended, or as it is after `timeout` seconds (None: wait without end).

        Raises:
            JobNotFound: there is none, or its result is no longer kept.
            BrokerUnavailable: it could not be looked up, at the latest half a second after `timeout`; `Overloaded` when
                too many wait in this process.
        """
        return await self._wait(job_id, timeout, lambda: self.inspector.find(job_id), lambda job: job.state.ended)

    async def _wait(
        self, name: str, timeout: float | None, look: Callable[[], Awaitable[T]], has_ended: Callable[[T], bool]
    ) -> T:
        """Look again and again until the end, or the end of the time; then what was seen last counts."""
        if timeout is not None and timeout <= 0:
            return await self._budget.persist(look)
        with self._completions.watch(name) as news:
            return await poll_until_ended(look, has_ended, news, self._budget, timeout)

    async def cancel(self, job_id: str) -> State:
        """Cancel a job: one that waits is cancelled at once, one that runs is told, and ends within seconds.

        Returns the state that it is in now.

        Raises:
            JobNotFound: there is none, or its result is no longer kept.
            JobEnded: it is too late.
        """
        return await self._budget.ask(lambda: self._cancel(job_id))

    async def _cancel(self, job_id: str) -> State:
        job = await self.inspector.find(job_id)
        answer = await self.queue_store.cancel(job_id, CANCELLED_KEPT_MS)
        if answer is Cancelled.UNKNOWN:
            raise JobNotFound(job_id)
        if answer is Cancelled.ENDED:
            raise JobEnded(job_id, job.state if job.state.ended else (await self.inspector.find(job_id)).state)
        return State.CANCELLED if answer is Cancelled.CANCELLED else State.RUNNING

    async def why(self, job_id: str) -> list[Reason]:
        """Why a job waits; empty when it runs or has ended. Also for steps of a workflow that have not been queued.

        Raises:
            JobNotFound: there is none, or its result is no longer kept.
        """
        return await self._budget.persist(lambda: self._why(job_id))

    async def _why(self, job_id: str) -> list[Reason]:
        facts = await self.inspector.why(job_id)
        if facts.job is None and facts.workflow is None:
            await self.inspector.find(job_id)
        return reasons(facts, await self.inspector.workers())

    async def pause_queue(self, queue: str) -> bool:
        """Let no worker take jobs from a queue until `resume_queue`; False when it was paused already."""
        return await self._budget.persist(lambda: self.queue_store.pause(queue))

    async def resume_queue(self, queue: str) -> bool:
        """Let workers take jobs again; False when it was not paused."""
        return await self._budget.persist(lambda: self.queue_store.pause(queue, resume=True))

    async def purge_queue(self, queue: str) -> int:
        """Cancel all jobs that wait in a queue, also deferred ones; how many there were. It takes as long as they are
        many; each slice of them has its time."""
        return await self.queue_store.purge(queue, CANCELLED_KEPT_MS)

    async def queues(self) -> Sequence[QueueRecord]:
        """Every queue that was ever used, with its length and latency."""
        return await self._budget.persist(self.inspector.queues)

    async def workers(self) -> Sequence[WorkerRecord]:
        """The workers whose heartbeat is fresh."""
        return await self._budget.persist(self.inspector.workers)

    def _connect(self, url: str, *, size: int, verify_tls: bool) -> Pool:
        return make_pool(url, size=size, verify_tls=verify_tls)

    def _stored_id(self, job_id: str) -> str:
        """What a job is called in Redis, which arq's own objects read by themselves."""
        return job_id


def _pack_flow(flow: Flow, options: WorkflowOptions, most: int) -> NewWorkflow:
    graph = compile_graph(flow, options.get("on_success"), options.get("on_error"))
    return pack_workflow(graph, options, most=most)
