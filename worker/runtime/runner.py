"""Does what the planner says, and tells it what happens: claim → run → finish."""

import asyncio
import contextvars
import time

import structlog

from worker.broker.exchange import Ack, Requeue
from worker.execution.attempt import Attempt, Stop
from worker.execution.executor import Executor
from worker.execution.outcomes import Outcome
from worker.runtime import actions, events
from worker.runtime.fetcher import Fetcher
from worker.runtime.listener import Listener
from worker.runtime.planner import next_actions, on
from worker.runtime.state import State
from worker.runtime.tally import Tally

logger = structlog.stdlib.get_logger("embarq.worker")

Action = actions.Action[events.Ended[Attempt, Ack], Attempt]
Event = events.Event[Attempt, Ack]


class Runner:
    """Runs the jobs of one worker. `abandoned`: those that did not end in time; `tally`: how many have ended."""

    def __init__(self, state: State[Attempt, Ack], executor: Executor, fetcher: Fetcher, listener: Listener) -> None:
        self.state = state
        self.executor = executor
        self.tally = Tally()
        self.abandoned: set[Attempt] = set()
        self._fetcher = fetcher
        self._listener = listener
        self._group: asyncio.TaskGroup | None = None
        self._outside = contextvars.Context()
        self._under_way: set[asyncio.Task[None]] = set()
        self._left = asyncio.Event()
        self._fault: Exception | None = None
        self._acts_soon = False
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = 0.0

    async def run(self) -> None:
        """Work until the planner leaves: what is under way is broken off then."""
        # What follows is often brought about by a job, whose context variables must reach neither others nor our logs.
        self._outside = contextvars.copy_context()
        try:
            async with asyncio.TaskGroup() as self._group:
                self._act()
                await self._left.wait()
                for task in self._under_way:
                    task.cancel()
                if self._fault is not None:
                    raise self._fault
        finally:
            self._group = None
            if self._timer is not None:
                self._timer.cancel()
            self._fetcher.close()
            await self._listener.close()

    def tell(self, event: Event) -> None:
        """Something has happened: do at once what follows."""
        try:
            on(self.state, event)
        except Exception as error:
            self._fail(error)
        self._act()

    def take_no_more(self, told: events.Told) -> None:
        """The worker is to stop. Those inside hear of it at once, also where the runner has not begun or has failed."""
        self.executor.stopping.set()
        self.tell(told)

    def _tell_soon(self, event: Event) -> None:
        """Something has happened that comes in numbers: do what follows once all of it is noted."""
        try:
            on(self.state, event)
        except Exception as error:
            self._fail(error)
        if self._group is not None and not self._acts_soon:
            self._acts_soon = True
            asyncio.get_running_loop().call_soon(self._act, context=self._outside)

    def _fail(self, fault: Exception) -> None:
        """A fault of our own ends the worker, which hands back what it has."""
        self._fault = self._fault or fault
        self._left.set()

    def _act(self) -> None:
        """Do what there is to do, until it is time to sleep, or to leave."""
        self._acts_soon = False
        try:
            while self._group is not None and not self._left.is_set():
                for action in next_actions(self.state, time.monotonic()):
                    if isinstance(action, actions.SleepUntil):
                        if self._timer is None or action.at < self._wakes_at:  # to act earlier does no harm
                            self._sleep_until(action.at)
                        return
                    self._do(action)
        except Exception as error:
            self._fail(error)

    def _do(self, action: Action) -> None:
        match action:
            case actions.Exchange():
                work = self._fetcher.exchange(action, self.tell)
            case actions.Wait():
                work = self._listener.wait(action, self.tell)
            case actions.Begin():
                return self.begin(action)
            case actions.Confirm():
                work = self._fetcher.confirm(action.number)
            case actions.BreakOff():
                work = self._listener.break_off(self.tell)
            case actions.PassOn():
                work = self._listener.pass_on(action.token)
            case _:
                return self._do_at_once(action)
        if self._group is not None:
            task = self._group.create_task(work, context=self._outside.copy())
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        return None

    def _do_at_once(self, action: Action) -> None:
        match action:
            case actions.Finish():
                self.finish(action)
            case actions.Overtaken():
                action.job.cancel(Stop.LEASE_LOST)
            case actions.Release():
                self._release(action)
            case actions.Drain():
                logger.info("worker stops", worker=self.executor.outcomes.worker, running=len(self.state.runs))
            case actions.HandBack():
                self._hand_back()
            case actions.Leave():
                self._left.set()

    def _sleep_until(self, at: float) -> None:
        """Act again at that time of the monotonic clock."""
        if self._timer is not None:
            self._timer.cancel()
        self._wakes_at = at
        loop, wait = asyncio.get_running_loop(), max(0.0, at - time.monotonic())
        self._timer = loop.call_later(wait, self._wake, context=self._outside)

    def _wake(self) -> None:
        self._timer = None
        self._act()

    def begin(self, begin: actions.Begin[Attempt]) -> None:
        """Start jobs that a claim brought."""
        loop = asyncio.get_running_loop()
        for run in begin.jobs:
            inside = run.inside or self._outside.copy()
            run.task = loop.create_task(self._run(run), name=f"job {run.claimed.id}", context=inside)

    async def _run(self, run: Attempt) -> None:
        outcome = await self.executor.execute(run)
        if run in self.abandoned:
            self.abandoned.discard(run)
            logger.warning("abandoned job has ended", job_id=run.id, duration=run.duration)
        else:
            self.ended(run, outcome)

    def abandon(self, run: Attempt) -> None:
        """A job swallows its cancellation: settle it without waiting."""
        self.abandoned.add(run)
        self.ended(run, self.executor.outcomes.stopped(run, None))

    def ended(self, run: Attempt, outcome: Outcome | None) -> None:
        """A job has ended; None where its lease is lost."""
        try:
            ack = None if outcome is None else run.settle(outcome)
        except Exception as error:
            self._fail(error)
        else:
            self._tell_soon(events.Ended(run, ack))

    def finish(self, finish: actions.Finish[events.Ended[Attempt, Ack]]) -> None:
        """Outcomes are stored, or refused."""
        for ended, stored in zip(finish.ended, finish.stored, strict=True):
            run, ack = ended.job, ended.ack
            if not stored:
                logger.warning("late result refused: the lease was lost", job_id=run.id)
            elif ack is not None:
                self.tally.count(ack.outcome)
                if self.executor.hooks.stored(run, ack.outcome, self._hooks_ended):
                    self._tell_soon(events.HooksBegun())

    def _release(self, release: actions.Release[Attempt]) -> None:
        for run in release.jobs:
            self.ended(run, Requeue(0, released=True))

    def _hand_back(self) -> None:
        for run in list(self.state.runs.values()):
            run.cancel(Stop.HANDED_BACK)

    def _hooks_ended(self) -> None:
        self._tell_soon(events.HooksEnded())
