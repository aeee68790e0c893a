"""Decides what a worker does next. Pure: what happens comes in as events, with times; what to do goes out as actions.

`on` notes what happened, `next_actions` decides; nothing else writes the state. Whoever performs a list that does not
end with `SleepUntil` or `Leave` asks for the next one at once: what it brings about comes first. The races that this
defends against are the rows of `tests/worker/runtime/test_planner.py`.
"""

from worker.runtime import traffic, waits
from worker.runtime.actions import (
    Action,
    Begin,
    Confirm,
    Drain,
    HandBack,
    Leave,
    Overtaken,
    Release,
    SleepUntil,
)
from worker.runtime.events import (
    A,
    Answered,
    BreakOffTried,
    Ended,
    Event,
    HooksBegun,
    HooksEnded,
    Interrupted,
    J,
    Notified,
    Refused,
    Told,
    Unavailable,
    Waited,
    WaitFailed,
)
from worker.runtime.state import Phase, State


def on(state: State[J, A], event: Event[J, A]) -> None:
    """Note what happened."""
    match event:
        case Ended():
            traffic.ended(state, event)
        case Answered():
            traffic.answered(state, event)
        case Waited():
            waits.waited(state, event)
        case Notified():
            traffic.notify(state)
        case HooksBegun():
            state.hooks += 1
        case HooksEnded():
            traffic.free(state, hooks=1)
        case Unavailable():
            traffic.failed(state, event.exchange)
            traffic.back_off(state, event.at)
        case Refused():
            traffic.refused(state, event)
        case Interrupted():
            traffic.failed(state, event.exchange)
        case WaitFailed():
            waits.failed(state, event)
        case BreakOffTried():
            waits.break_off_tried(state, event)
        case Told():
            _told(state, event)


def _told(state: State[J, A], event: Told) -> None:
    """A second request may end the grace period; one that names no time takes none back."""
    if event.hand_back_at is not None:
        state.hand_back_at, state.gone_at = event.hand_back_at, event.gone_at
    if state.phase is Phase.SERVING:
        state.phase = Phase.DRAINING
        state.due.append(Drain())


def next_actions(state: State[J, A], now: float) -> list[Action[Ended[J, A], J]]:
    """What to do now."""
    if state.brought:
        _take_in(state)
    if state.phase is Phase.DRAINING and _has_come(state.hand_back_at, now):
        state.phase = Phase.HANDING_BACK
        state.due.append(HandBack())
    if state.due:
        due, state.due = state.due, []
        return due
    if _is_done(state, now):
        state.phase = Phase.GONE
        return [Leave()]
    actions: list[Action[Ended[J, A], J]] = []
    if (wait := waits.next_wait(state, now)) is not None:
        actions.append(wait)
    while (exchange := traffic.next_exchange(state, now)) is not None:
        actions.append(exchange)
    actions.append(SleepUntil(_next_time(state, now)))
    return actions


def _take_in(state: State[J, A]) -> None:
    """Begin what claims brought. What was under way when the worker was told to stop goes back, for others."""
    serves = state.phase is Phase.SERVING
    for number, brought in state.brought:
        if not brought.jobs:
            continue
        state.due.append(Confirm(number))
        for job in brought.jobs:
            state.leases[job] = False
            if serves:
                if (earlier := state.runs.get(job.id)) is not None:
                    state.due.append(Overtaken(earlier))
                state.runs[job.id] = job
        state.due.append(Begin(brought.jobs) if serves else Release(brought.jobs))
    state.brought = []


def _has_come(moment: float | None, now: float) -> bool:
    return moment is not None and now >= moment


def _is_done(state: State[J, A], now: float) -> bool:
    """Whether there is nothing to do and no reason to stay, or no time left."""
    if _has_come(state.gone_at, now):
        return True
    if state.sent or state.outbox or state.blocking_claim or state.taken:
        return False
    return state.phase is not Phase.SERVING or (state.rules.burst and state.nothing_waits)


def _next_time(state: State[J, A], now: float) -> float:
    """When there may be something to do although nothing happens; every poll at the latest."""
    times = [now + state.rules.poll, traffic.next_time(state, now), waits.next_time(state, now)]
    if state.phase is Phase.DRAINING and state.hand_back_at is not None:
        times.append(state.hand_back_at)
    if state.gone_at is not None:
        times.append(state.gone_at)
    return min(times)
