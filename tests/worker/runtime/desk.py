"""A planner at work, in words: what is said to it, and what it says."""

import re
from dataclasses import dataclass
from typing import Any

from worker.runtime import actions, events
from worker.runtime.planner import next_actions, on
from worker.runtime.state import Phase, Rules, State


@dataclass(frozen=True, eq=False)
class Job:
    """A job under one lease."""

    id: str


class Ack(str):
    """What tells Redis how a job has ended."""

    size: int

    def __new__(cls, text: str, size: int = 1) -> "Ack":
        ack = super().__new__(cls, text)
        ack.size = size
        return ack


class Desk:
    """Tells a planner what happens, at a time that stands still in between, and notes what it says to that. What is
    under way is answered in the order in which it was sent."""

    def __init__(self, **rules: Any) -> None:
        self.state: State[Job, Ack] = State.new(Rules(**{"slots": 2, "poll": 0.5, "lease": 15.0} | rules))
        self.now = 100.0
        self.sleeps = 0.0
        self.trips: list[actions.Exchange[events.Ended[Job, Ack]]] = []
        self.wait: actions.Wait | None = None
        self.jobs: dict[str, Job] = {}

    def says(self) -> str:
        """All that is to be done now, in words; the rest of it is sleep."""
        said: list[str] = []
        while self.state.phase is not Phase.GONE:
            for action in next_actions(self.state, self.now):
                if isinstance(action, actions.SleepUntil):
                    self.sleeps = round(action.at - self.now, 3)
                    return "; ".join(said)
                said.append(self._words(action))
        return "; ".join(said)

    def _words(self, action: Any) -> str:
        match action:
            case actions.Exchange():
                self.trips.append(action)
                return self._trip(action)
            case actions.Wait():
                self.wait = action
                return "wait" if action.ask is None else "wait with a claim"
            case actions.Release():
                for job in action.jobs:
                    on(self.state, events.Ended(job, Ack(f"{job.id} back")))
            case actions.Finish():
                pairs = zip(action.ended, action.stored, strict=True)
                told = [f"{ended.job.id} {'stored' if stored else 'refused'}" for ended, stored in pairs]
                return "finish " + ", ".join(told)
        return _word(action)

    def _trip(self, trip: actions.Exchange[events.Ended[Job, Ack]]) -> str:
        said = []
        if trip.ended:
            said.append("store " + _names([ended.job for ended in trip.ended]))
        if trip.unheard:
            said.append("ask back " + " ".join(map(str, trip.unheard)))
        if trip.ask is not None:
            said.append(f"claim {trip.ask.limit}" + (" suspects" if trip.ask.suspects else ""))
        return " + ".join(said)

    # What happens.

    def answer(self, jobs: str = "", *, refused: str = "", claim: bool = True, **facts: Any) -> None:
        """Redis answers an exchange. `refused`: jobs whose outcomes are not stored; `claim`: whether that was made."""
        trip = self.trips.pop(0)
        stored = [ended.job.id not in refused.split() for ended in trip.ended]
        brought = self._brought(jobs, **facts) if trip.ask is not None and claim else None
        on(self.state, events.Answered(trip, stored, brought, self.now))

    def _brought(
        self, jobs: str, due: float | None = None, *, more: bool = False, suspects: int = 0
    ) -> events.Brought[Job]:
        found = [Job(name) for name in jobs.split()]
        self.jobs |= {job.id: job for job in found}
        return events.Brought(found, due, more, suspects)

    def cut(self) -> None:
        """The answer of an exchange gets lost."""
        on(self.state, events.Unavailable(self.trips.pop(0), self.now))

    def interrupt(self) -> None:
        """An exchange is given up here."""
        on(self.state, events.Interrupted(self.trips.pop(0)))

    def refuse(self) -> None:
        """Redis refuses an exchange as a whole."""
        on(self.state, events.Refused(self.trips.pop(0), self.now))

    def end(self, names: str, size: int = 1) -> None:
        """Jobs end."""
        for name in names.split():
            on(self.state, events.Ended(self.jobs[name], Ack(f"{name} done", size)))

    def lose(self, name: str) -> None:
        """A job has ended whose lease is lost: the earliest run of that name."""
        job = next(job for job in self.state.leases if job.id == name)
        on(self.state, events.Ended(job, None))

    def wake(self, jobs: str = "", *, token: bool = True, **facts: Any) -> None:
        """The wait ends."""
        assert self.wait is not None
        brought = None if self.wait.ask is None else self._brought(jobs, **facts)
        wait, self.wait = self.wait, None
        on(self.state, events.Waited(wait, "a token" if token else None, brought, self.now))

    def script_unknown(self) -> None:
        """The wait ends, and the claim behind it was not made."""
        assert self.wait is not None
        wait, self.wait = self.wait, None
        on(self.state, events.Waited(wait, "token", None, self.now))

    def wait_fails(self) -> None:
        """The connection of the wait breaks."""
        assert self.wait is not None
        wait, self.wait = self.wait, None
        on(self.state, events.WaitFailed(wait, self.now))

    def broken_off(self, *, again: bool = True) -> None:
        """Redis was asked to break off the wait."""
        on(self.state, events.BreakOffTried(again, self.now))

    def stop(self, grace: float = 5.0) -> None:
        """A signal."""
        on(self.state, events.Told(self.now + grace, self.now + grace + 3.0))

    def tell(self, event: events.Event[Job, Ack]) -> None:
        """Anything else."""
        on(self.state, event)

    def later(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds


def _names(jobs: Any) -> str:
    return " ".join(job.id for job in jobs)


def _word(action: Any) -> str:
    match action:
        case actions.Begin() | actions.Release():
            return f"{type(action).__name__.lower()} {_names(action.jobs)}"
        case actions.Overtaken():
            return f"stop the earlier {action.job.id}"
        case actions.Confirm():
            return f"confirm {action.number}"
        case actions.PassOn():
            return f"pass on {action.token}"
    return re.sub(r"(?<!^)([A-Z])", r" \1", type(action).__name__).lower()
