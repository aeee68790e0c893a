"""Does what the planner says, and tells it what happens: claim → run → finish."""

import asyncio

import structlog

from worker.broker.exchange import PutBack, Settlement
from worker.execution.attempt import Run, Stop
from worker.execution.executor import Executor
from worker.execution.outcomes import Outcome
from worker.runtime import actions, events
from worker.runtime.acting import Acting, Action, Event
from worker.runtime.fetcher import Fetcher, Trip
from worker.runtime.listener import Listener
from worker.runtime.state import State
from worker.runtime.tally import Tally

logger = structlog.stdlib.get_logger("embarq.worker")


class Runner:
    """Runs the jobs of one worker. `abandoned`: those that did not end in time; `tally`: how many have ended."""

    def __init__(self, state: State[Run, Settlement], executor: Executor, fetcher: Fetcher, listener: Listener) -> None:
        self.state = state
        self.executor = executor
        self.tally = Tally()
        self.abandoned: set[Run] = set()
        self._fetcher = fetcher
        self._listener = listener
        self._acting = Acting(state, self._do)
        self.tell = self._acting.tell

    async def run(self) -> None:
        """Work until the planner leaves."""
        try:
            await self._acting.run()
        finally:
            self._fetcher.close()
            await self._listener.close()

    def _do(self, action: Action) -> None:
        begin = self._acting.begin
        match action:
            case actions.Exchange():
                begin(self._exchange(action))
            case actions.Wait():
                begin(self._wait(action))
            case actions.Confirm():
                begin(self._fetcher.confirm(action.number))
            case actions.Begin():
                self.begin(action)
            case actions.Finish():
                self.finish(action)
            case actions.BreakOff():
                begin(self._break_off())
            case actions.PassOn():
                begin(self._listener.pass_on(action.token))
            case actions.Overtaken():
                action.job.cancel(Stop.LEASE_LOST)
            case actions.Release():
                self._release(action)
            case actions.Drain():
                logger.info("worker stops", worker=self.executor.outcomes.worker, running=len(self.state.runs))
                self.executor.stopping.set()
            case actions.HandBack():
                self._hand_back()

    async def _exchange(self, trip: Trip) -> None:
        event: Event = events.Interrupted(trip)
        try:
            event = await self._fetcher.exchange(trip)
        finally:
            self.tell(event)

    async def _wait(self, wait: actions.Wait) -> None:
        self.tell(await self._listener.wait(wait))

    async def _break_off(self) -> None:
        self.tell(await self._listener.break_off())

    def begin(self, begin: actions.Begin[Run]) -> None:
        """Start jobs that a claim brought."""
        loop = asyncio.get_running_loop()
        for run in begin.jobs:
            run.task = loop.create_task(self._run(run), name=f"job {run.id}", context=run.inside)

    async def _run(self, run: Run) -> None:
        outcome = await self.executor.execute(run)
        if run in self.abandoned:
            self.abandoned.discard(run)
            logger.warning("abandoned job ended at last", job_id=run.id, duration=run.duration)
        else:
            self.ended(run, outcome)

    def abandon(self, run: Run) -> None:
        """A job swallows its cancellation: settle it without waiting."""
        self.abandoned.add(run)
        self.ended(run, self.executor.outcomes.stopped(run, None))

    def ended(self, run: Run, outcome: Outcome | None) -> None:
        """A job has ended; None where its lease is lost."""
        ack = None if outcome is None else run.settle(outcome)
        self._acting.tell_soon(events.Ended(run, ack, 0 if ack is None else ack.size))

    def finish(self, finish: actions.Finish[events.Ended[Run, Settlement]]) -> None:
        """Outcomes are stored, or refused."""
        for ended, stored in zip(finish.ended, finish.stored, strict=True):
            run, ack = ended.job, ended.ack
            if not stored:
                logger.warning("late result refused: the lease was lost", job_id=run.id)
            elif ack is not None:
                self.tally.count(ack.outcome)
                if self.executor.hooks.stored(run, ack.outcome, self._hooks_ended):
                    self._acting.tell_soon(events.HooksBegun())

    def _release(self, release: actions.Release[Run]) -> None:
        for run in release.jobs:
            self.ended(run, PutBack(0, released=True))

    def _hand_back(self) -> None:
        for run in list(self.state.runs.values()):
            run.cancel(Stop.HANDED_BACK)

    def _hooks_ended(self) -> None:
        self._acting.tell_soon(events.HooksEnded())
