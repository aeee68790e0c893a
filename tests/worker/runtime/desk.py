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
    under way is answered in the order in which it was sent. What it says although nothing happened but that time has
    passed, it must have asked to be woken for."""

    def __init__(self, **rules: Any) -> None:
        self.state: State[Job, Ack] = State.new(Rules(**{"slots": 2, "poll": 0.5, "lease": 15.0} | rules))
        self.now = 100.0
        self.wakes_at = self.now
        self.is_told = True
        self.trips: list[actions.Exchange[events.Ended[Job, Ack]]] = []
        self.wait: actions.Wait | None = None
        self.jobs: dict[str, Job] = {}

    def says(self) -> str:
        """All that is to be done now, in words; the rest of it is sleep."""
        sleeps = not self.is_told and self.now < self.wakes_at - 1e-6
        said = self._all()
        assert not (sleeps and said), f"it sleeps when it has to say: {said}"
        self.is_told = False
        return said

    def _all(self) -> str:
        said: list[str] = []
        while self.state.phase is not Phase.GONE:
            for action in next_actions(self.state, self.now):
                if isinstance(action, actions.SleepUntil):
                    self.wakes_at = action.at
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
                    self.tell(events.Ended(job, Ack(f"{job.id} back")))
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
        self.tell(events.Answered(trip, stored, brought, self.now))

    def _brought(
        self, jobs: str, due: float | None = None, *, more: bool = False, suspects: int = 0
    ) -> events.Brought[Job]:
        found = [Job(name) for name in jobs.split()]
        self.jobs |= {job.id: job for job in found}
        return events.Brought(found, due, more, suspects)

    def cut(self) -> None:
        """The answer of an exchange gets lost."""
        self.tell(events.Unavailable(self.trips.pop(0), self.now))

    def interrupt(self) -> None:
        """An exchange is given up here."""
        self.tell(events.Interrupted(self.trips.pop(0)))

    def refuse(self) -> None:
        """Redis refuses an exchange as a whole."""
        self.tell(events.Refused(self.trips.pop(0), self.now))

    def end(self, names: str, size: int = 1) -> None:
        """Jobs end."""
        for name in names.split():
            self.tell(events.Ended(self.jobs[name], Ack(f"{name} done", size)))

    def lose(self, name: str) -> None:
        """A job has ended whose lease is lost: the earliest run of that name."""
        job = next(job for job in self.state.leases if job.id == name)
        self.tell(events.Ended(job, None))

    def wake(self, jobs: str = "", *, token: bool = True, **facts: Any) -> None:
        """The wait ends."""
        assert self.wait is not None
        brought = None if self.wait.ask is None else self._brought(jobs, **facts)
        wait, self.wait = self.wait, None
        self.tell(events.Waited(wait, "a token" if token else None, brought, self.now))

    def script_unknown(self) -> None:
        """The wait ends, and the claim behind it was not made."""
        assert self.wait is not None
        wait, self.wait = self.wait, None
        self.tell(events.Waited(wait, "token", None, self.now))

    def wait_fails(self) -> None:
        """The connection of the wait breaks."""
        assert self.wait is not None
        wait, self.wait = self.wait, None
        self.tell(events.WaitFailed(wait, self.now))

    def broken_off(self, *, again: bool = True) -> None:
        """Redis was asked to break off the wait."""
        self.tell(events.BreakOffTried(again, self.now))

    def stop(self, grace: float = 5.0) -> None:
        """A signal."""
        self.tell(events.Told(self.now + grace, self.now + grace + 3.0))

    def tell(self, event: events.Event[Job, Ack]) -> None:
        """Anything else."""
        self.is_told = True
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
