"""What a worker owes to Redis when it ends: outcomes that were not stored yet, and jobs that have not ended."""

import asyncio
from collections.abc import Sequence

import structlog
from redis.exceptions import ResponseError

from worker.broker.exchange import Ack, Requeue, urgent_first
from worker.broker.queue_store import QueueStore
from worker.core.errors import BrokerUnavailable
from worker.execution.attempt import Attempt, Stop
from worker.execution.outcomes import Outcome, Outcomes
from worker.runtime.events import SettledBeside
from worker.runtime.planner import on
from worker.runtime.state import State

logger = structlog.stdlib.get_logger("embarq.worker")

STORED_WITHIN = 1.0
TASKS_END_WITHIN = 0.2


class HandingBack:
    """Settles what is left of a worker's jobs, so that no lease has to end by itself.

    `abandoned`: those whose outcome is known, and whose task has not ended.
    """

    def __init__(self, state: State[Attempt, Ack], abandoned: set[Attempt], outcomes: Outcomes) -> None:
        self._state = state
        self._abandoned = abandoned
        self._outcomes = outcomes

    def unsettled(self) -> list[Ack]:
        """Outcomes that Redis has not confirmed, and the jobs that run or are about to, handed back. May be called from
        any thread."""
        open_runs = self._open_runs()
        acks = self._state.unsettled()  # after that look: one that ends meanwhile is here
        settled = {id(each.claimed) for each in acks}
        for run in open_runs:
            if id(run.claimed) not in settled and run.stop is not Stop.LEASE_LOST:
                acks.append(run.settle(self._outcome(run)))
        return acks

    def _open_runs(self) -> list[Attempt]:
        """All whose outcome is not known: those that a claim has brought first, as they are among the leases next."""
        brought = [run for _, each in self._state.brought for run in each.jobs]
        leases = [run for run in list(self._state.leases) if self._state.is_open(run)]
        return list(dict.fromkeys([*brought, *leases]))

    def _outcome(self, run: Attempt) -> Outcome:
        """What is stored of a job that does not end: it is handed back, unless it was to be stopped for good."""
        stopped = self._outcomes.stopped(run, None) if run.must_stop else None
        return Requeue(0, released=True) if stopped is None else stopped

    async def let_go(self, queue_store: QueueStore) -> None:
        """See the tasks of jobs out, and store what is left; one that swallows its cancellation is left behind."""
        await self._end_tasks()
        unsettled = self.unsettled()
        stored: list[Ack] = []
        if unsettled:
            logger.error("jobs are left behind", jobs=[each.claimed.id for each in unsettled])
            stored = await _store(queue_store, unsettled)
        self._abandoned |= {run for run in self._state.leases if run.task is not None and not run.task.done()}
        claims = {id(ack.claimed) for ack in stored}
        coming = [run for _, each in self._state.brought for run in each.jobs]
        settled = {run for run in (*self._state.leases, *coming) if id(run.claimed) in claims}
        on(self._state, SettledBeside(settled))

    async def _end_tasks(self) -> None:
        """Wait a moment for those that clean up after their cancellation; a second one ends the wait for a thread."""
        for run in list(self._state.leases):
            if self._state.is_open(run):
                run.cancel(Stop.HANDED_BACK)
        cleaning = [run.task for run in self._state.leases if run.task is not None]
        if cleaning:
            await asyncio.wait(cleaning, timeout=TASKS_END_WITHIN)
        left = [task for task in (*cleaning, *(run.task for run in self._abandoned)) if task is not None]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=TASKS_END_WITHIN)


async def _store(queue_store: QueueStore, acks: Sequence[Ack]) -> list[Ack]:
    """Store what can be in a second, what is most urgent first: all else waits for the end of its lease."""
    stored: list[Ack] = []
    try:
        async with asyncio.timeout(STORED_WITHIN):
            for call in urgent_first(acks):
                try:
                    await queue_store.exchange(call, None)
                    stored += call
                except ResponseError as error:
                    logger.error("jobs could not be handed back: their leases will end", reason=str(error))
    except (BrokerUnavailable, TimeoutError) as error:
        logger.error("not all jobs could be handed back: their leases will end", reason=str(error))
    return stored
