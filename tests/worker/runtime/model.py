"""A small Redis, and a worker around the planner in which anything may happen at any time. No I/O, no clock."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from worker.core.config import Suspects
from worker.runtime.actions import (
    Ask,
    Begin,
    BreakOff,
    Confirm,
    Exchange,
    Finish,
    HandBack,
    Leave,
    Overtaken,
    PassOn,
    Release,
    SleepUntil,
    Wait,
)
from worker.runtime.events import (
    Answered,
    BreakOffTried,
    Brought,
    Ended,
    Event,
    HooksBegun,
    HooksEnded,
    Interrupted,
    Notified,
    Refused,
    Told,
    Unavailable,
    Waited,
    WaitFailed,
)
from worker.runtime.planner import next_actions, on
from worker.runtime.state import Phase, Rules, State

LEASE, POLL, BLOCKS_FOR = 15.0, 0.5, 5.0
LARGE = 3 * 1024 * 1024
AGAIN_AFTER = 0.7


@dataclass(frozen=True, eq=False)
class Job:
    """A job under one lease."""

    id: str
    number: int


@dataclass(frozen=True)
class Ack:
    """What becomes of a job: `done`, `again` after a pause, or `back` without having used a try. A `bad` one is refused
    by Redis with all that goes with it."""

    job: Job
    what: str
    bad: bool = False
    size: int = 1


Trip = Exchange[Ended[Job, Ack]]


class RefusedError(Exception):
    """Redis refuses a round trip."""


@dataclass
class Redis:
    """What the scripts do, as far as a worker can tell."""

    ready: list[str] = field(default_factory=list)
    later: dict[str, float] = field(default_factory=dict)
    leases: dict[str, tuple[int, float]] = field(default_factory=dict)
    unheard: dict[int, list[str]] = field(default_factory=dict)
    settled: set[tuple[str, int]] = field(default_factory=set)
    done: set[str] = field(default_factory=set)
    losses: dict[str, int] = field(default_factory=dict)
    suspects: list[str] = field(default_factory=list)
    token: bool = False

    def enqueue(self, job_id: str) -> None:
        self.ready.append(job_id)
        self.token = True

    def settle(self, acks: Sequence[Ack]) -> list[bool]:
        if any(ack.bad for ack in acks):
            raise RefusedError
        return [self._settle(ack) for ack in acks]

    def _settle(self, ack: Ack) -> bool:
        job = ack.job
        if self.leases.get(job.id, (0, 0.0))[0] != job.number:
            return (job.id, job.number) in self.settled
        del self.leases[job.id]
        self.settled.add((job.id, job.number))
        self.losses.pop(job.id, None)
        if ack.what == "done":
            self.done.add(job.id)
        elif ack.what == "again":
            self.later[job.id] = self.now + AGAIN_AFTER
        else:
            self.ready.append(job.id)
        return True

    now: float = 0.0

    def give_back(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            for job_id in self.unheard.pop(number, []):
                if self.leases.get(job_id, (0, 0.0))[0] == number:
                    del self.leases[job_id]
                    self.ready.append(job_id)

    def look(self) -> None:
        """What is due by now is."""
        for job_id, due in list(self.later.items()):
            if due <= self.now:
                del self.later[job_id]
                self.ready.append(job_id)
        for job_id, (number, ends) in list(self.leases.items()):
            if ends <= self.now:
                del self.leases[job_id]
                was_heard = all(job_id not in ids for ids in self.unheard.values())
                self.unheard.pop(number, None)
                self.losses[job_id] = self.losses.get(job_id, 0) + was_heard
                (self.suspects if self.losses[job_id] >= 2 else self.ready).append(job_id)

    def claim(self, ask: Ask) -> Brought[Job]:
        self.look()
        source = self.suspects if ask.suspects else self.ready
        taken, source[:] = source[: ask.limit], source[ask.limit :]
        ends = self.now + LEASE
        for job_id in taken:
            self.leases[job_id] = (ask.number, ends)
        if taken:
            self.unheard[ask.number] = list(taken)
        dues = [*self.later.values(), *(end for _, end in self.leases.values())]
        due_in = max(0.0, min(dues) - self.now) if dues and not ask.suspects else None
        more = bool(source) and not ask.suspects
        jobs = [Job(job_id, ask.number) for job_id in taken]
        return Brought(jobs, due_in, more, len(self.suspects))

    @property
    def is_empty(self) -> bool:
        return not (self.ready or self.later or self.leases)


@dataclass(eq=False)
class Sent:
    """An exchange under way: whether Redis has got to it, and its answer, or that it refuses."""

    trip: Trip
    reached: bool = False
    stored: list[bool] = field(default_factory=list)
    brought: Brought[Job] | None = None
    refused: bool = False


class World:
    """A worker and its Redis. `step` does one thing that may happen; what must never be is asserted on the way."""

    def __init__(self, slots: int, *, burst: bool, suspects: Suspects, hooks: bool) -> None:
        self.state: State[Job, Ack] = State.new(Rules(slots, POLL, LEASE, burst, suspects))
        self.redis = Redis()
        self.hooks = hooks
        self.now = 1000.0
        self.wakes_at = self.now
        self.is_told = True
        self.under_way: list[Sent] = []
        self.late: list[Trip] = []
        self.waits: Wait | None = None
        self.waits_until = 0.0
        self.waited: Waited[Job] | None = None
        self.breaks_off = False
        self.tasks: list[Job] = []  # that run and hold a slot
        self.deaf: list[Job] = []  # abandoned: they run, and somebody else has their slots
        self.begun: set[tuple[str, int]] = set()
        self.holding: set[Job] = set()  # begun, and neither settled nor lost
        self.confirmed: set[int] = set()
        self.owed: list[Ack] = []
        self.finished: list[Ack] = []
        self.after: int = 0  # hooks under way
        self.told = self.left = self.cancelled = False
        self.names = 0
        self.bad_before: set[str] = set()

    # What the worker does.

    def _tell(self, event: Event[Job, Ack]) -> None:
        self.is_told = True
        on(self.state, event)

    def act(self) -> None:
        sleeps, self.is_told = not self.is_told and self.now < self.wakes_at, False
        for _ in range(50):
            actions = next_actions(self.state, self.now)
            assert not sleeps or isinstance(actions[0], SleepUntil), f"it sleeps when it is time for {actions[0]}"
            for action in actions:
                self._perform(action)
            if isinstance(actions[-1], SleepUntil | Leave):
                return
        raise AssertionError("it never comes to rest")

    def _perform(self, action: object) -> None:
        match action:
            case Exchange():
                self._check_ask(action.ask, len(action.ended))
                self.under_way.append(Sent(action))
            case Wait():
                assert self.waits is None, "one wait at a time"
                self._check_ask(action.ask, 0)
                self.waits, self.waits_until = action, self.now + BLOCKS_FOR
            case BreakOff():
                assert self.waits is not None
                assert not self.breaks_off
                self.breaks_off = True
            case PassOn():
                self.redis.token = True
            case Confirm():
                self.confirmed.add(action.number)
                self.redis.unheard.pop(action.number, None)
            case HandBack():
                self.cancelled = True
            case Leave():
                self.left = True
                self._check_end()
            case SleepUntil():
                assert self.now < action.at <= self.now + POLL, "it turns in circles, or sleeps too long"
                self.wakes_at = action.at
            case _:
                self._run(action)

    def _run(self, action: object) -> None:
        match action:
            case Begin():
                self._begin(action.jobs)
            case Release():
                assert self.told, "a job is put back for no reason"
                for job in action.jobs:
                    self.end(job, Ack(job, "back"))
            case Overtaken():
                self.lose(action.job)
            case Finish():
                self._finish(action)

    def _begin(self, jobs: Sequence[Job]) -> None:
        assert not self.told, "a job was taken after the stop"
        for job in jobs:
            key = (job.id, job.number)
            assert key not in self.begun, "a job was begun twice under one lease"
            assert job.number in self.confirmed, "a job was begun before its claim was confirmed"
            self.begun.add(key)
            self.tasks.append(job)
            self.holding.add(job)
        assert len(self.tasks) <= self.state.rules.slots, "more run than there are slots"

    def _check_ask(self, ask: Ask | None, leaving: int) -> None:
        if ask is None:
            return
        assert not self.told, "it asks for jobs after the stop"
        asked = sum(sent.trip.ask.limit for sent in self.under_way if sent.trip.ask is not None)
        asked += self.waits is not None and self.waits.ask is not None
        leaving += sum(len(sent.trip.ended) for sent in self.under_way)
        room = self.state.rules.slots - len(self.holding) - self.after + leaving - asked
        assert 0 < ask.limit <= room, f"it asks for {ask.limit} where there is room for {room}"
        if ask.suspects:
            assert not asked, "suspects are asked for while something else may come"

    def _finish(self, action: Finish[Ended[Job, Ack]]) -> None:
        for ended, stored in zip(action.ended, action.stored, strict=True):
            assert ended.ack is not None
            self.finished.append(ended.ack)
            self.holding.discard(ended.job)
            if stored and self.hooks and ended.ack.what != "back":
                self.after += 1
                self._tell(HooksBegun())

    def _check_end(self) -> None:
        state = self.state
        waiting = state.unsettled()
        assert sorted(map(id, [*self.finished, *waiting])) == sorted(map(id, self.owed)), "an outcome was dropped"
        if state.gone_at is not None and self.now >= state.gone_at:
            return
        assert not waiting, "it leaves although there is time to store outcomes"
        assert not self.tasks, "it leaves although jobs run"
        assert not self.under_way, "it leaves before an answer"
        assert self.waits is None or self.waits.ask is None, "it leaves although a claim is out"
        if not self.told:
            assert state.rules.burst, "it leaves although nobody told it"
            if state.rules.suspects is not Suspects.ONLY:
                assert self.redis.is_empty, "a burst ends while something waits"

    # What may happen.

    def enqueue(self) -> None:
        self.names += 1
        self.redis.now = self.now
        self.redis.enqueue(f"job {self.names}")

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.redis.now = self.now

    def renew(self) -> None:
        """As the lease keeper does; who has lost a lease is stopped."""
        for job in list(self.state.runs.values()):
            if self.redis.leases.get(job.id, (0, 0.0))[0] == job.number:
                self.redis.leases[job.id] = (job.number, self.now + LEASE)
            elif job in self.tasks:
                self.lose(job)

    def end(self, job: Job, ack: Ack | None) -> None:
        if self.state.is_open(job):
            if ack is not None:
                self.owed.append(ack)
            else:
                self.holding.discard(job)
        self._tell(Ended(job, ack))
        if job in self.tasks:
            self.tasks.remove(job)

    def lose(self, job: Job) -> None:
        """Its lease is gone, and it has ended; one whose outcome is on its way is left alone."""
        if self.state.is_open(job):
            self.end(job, None)

    def abandon(self, job: Job) -> None:
        self.end(job, Ack(job, "done"))
        self.deaf.append(job)

    def reach(self, sent: Sent) -> None:
        """Redis gets to an exchange."""
        sent.reached = True
        try:
            sent.stored, sent.brought = self._apply(sent.trip)
        except RefusedError:
            sent.refused = True

    def _apply(self, trip: Trip) -> tuple[list[bool], Brought[Job] | None]:
        self.redis.now = self.now
        self.redis.look()
        stored = self.redis.settle([ended.ack for ended in trip.ended if ended.ack is not None])
        self.redis.give_back(trip.unheard)
        return stored, None if trip.ask is None else self.redis.claim(trip.ask)

    def answer(self, sent: Sent) -> None:
        self.under_way.remove(sent)
        if sent.refused:
            self._tell(Refused(sent.trip, self.now))
        else:
            self._tell(Answered(sent.trip, sent.stored, sent.brought, self.now))

    def forget_claim(self, sent: Sent) -> None:
        """Redis settles, and its claim fails."""
        if sent.trip.ask is not None and sent.brought is not None:
            self.redis.give_back([sent.trip.ask.number])
            sent.brought = None

    def cut(self, sent: Sent) -> None:
        """The connection breaks. What Redis has not got to, it may get to later."""
        self.under_way.remove(sent)
        if not sent.reached:
            self.late.append(sent.trip)
        self._tell(Unavailable(sent.trip, self.now))

    def interrupt(self, sent: Sent) -> None:
        self.under_way.remove(sent)
        self._tell(Interrupted(sent.trip))

    def refuse(self, sent: Sent) -> None:
        self.under_way.remove(sent)
        self._tell(Refused(sent.trip, self.now))

    def reach_late(self) -> None:
        trip = self.late.pop(0)
        try:
            self._apply(trip)
        except RefusedError:
            return

    def end_wait(self) -> None:
        """A token has come, the time is over, or it was broken off: the claim behind it is made."""
        assert self.waits is not None
        token, self.redis.token = ("queue" if self.redis.token else None), False
        self.redis.now = self.now
        brought = None if self.waits.ask is None else self.redis.claim(self.waits.ask)
        self.waited = Waited(self.waits, token, brought, self.now)

    def hear_wait(self) -> None:
        assert self.waited is not None
        event = Waited(self.waited.wait, self.waited.token, self.waited.brought, self.now)
        self.waits = self.waited = None
        self._tell(event)

    def break_wait(self) -> None:
        """Its connection breaks, before or after Redis has made the claim."""
        assert self.waits is not None
        wait = self.waits
        self.waits = self.waited = None
        self._tell(WaitFailed(wait, self.now))

    def try_break_off(self, *, again: bool) -> None:
        self.breaks_off = False
        if self.waits is not None and self.waited is None and again:
            self.end_wait()
        self._tell(BreakOffTried(again, self.now))

    def end_hooks(self) -> None:
        self.after -= 1
        self._tell(HooksEnded())

    def tell(self, grace: float | None) -> None:
        """A signal; None: that only jobs of others are left."""
        self.told = True
        end = None if grace is None else min(self.now + grace, self.state.hand_back_at or self.now + grace)
        self._tell(Told(end, None if end is None else end + 3.0))

    def notify(self) -> None:
        self._tell(Notified())

    # How it goes on where nothing goes wrong any more.

    def go_on_well(self, until: "Callable[[], bool]", most: int) -> None:
        """Redis answers, jobs end, time passes; until something holds, in so many rounds at most."""
        for _ in range(most):
            self.act()
            if self.left or until():
                return
            if not self._go_on():
                self.pass_time(self.wakes_at - self.now)
            self.renew()
        raise AssertionError(f"it does not come to an end: {self.state}")

    def _go_on(self) -> bool:
        """Let everything happen that is under way; whether something was."""
        under_way = list(self.under_way)
        for sent in under_way:
            if not sent.reached:
                self.reach(sent)
            self.answer(sent)
        happened = bool(under_way or self.tasks or self.after or self.breaks_off)
        for job in list(self.tasks):
            self.end(job, Ack(job, "back" if self.cancelled else "done"))
        while self.after:
            self.end_hooks()
        if self.breaks_off:
            self.try_break_off(again=True)
        if self.waits is not None and self.waited is None and (self.redis.token or self.now >= self.waits_until):
            self.end_wait()
        if self.waited is not None:
            self.hear_wait()
            happened = True
        return happened

    @property
    def is_over(self) -> bool:
        return self.state.phase is Phase.GONE
