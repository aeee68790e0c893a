"""Decides what a worker does next. Pure: what happens comes in as events, with times; what to do goes out as actions.

`on` notes what happened, `next_actions` decides: with what they call in `traffic`, the planner's other half, nothing
else writes the state. Whoever performs a list that does not
end with `SleepUntil` or `Leave` asks for the next one at once: what it brings about comes first. The races that this
defends against are the rows of `tests/worker/runtime/test_planner.py`.
"""

from collections.abc import Collection

from worker.runtime import traffic
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
    SettledBeside,
    Told,
    Unavailable,
    Waited,
    WaitFailed,
)
from worker.runtime.isolation import Turn
from worker.runtime.state import Phase, State


def on(state: State[J, A], event: Event[J, A]) -> None:
    """Note what happened."""
    match event:
        case Ended():
            traffic.ended(state, event)
        case Answered():
            traffic.answered(state, event)
        case Waited():
            traffic.waited(state, event)
        case Notified():
            traffic.notify(state)
        case HooksBegun():
            state.hooks += 1
        case HooksEnded():
            traffic.free(state, hooks=1)
        case Unavailable() | Interrupted():
            traffic.unanswered(state, event)
        case Refused():
            traffic.refused(state, event)
        case WaitFailed():
            traffic.wait_failed(state, event)
        case BreakOffTried():
            traffic.break_off_tried(state, event)
        case Told():
            _told(state, event)
        case SettledBeside():
            _forget(state, event.jobs)


def _told(state: State[J, A], event: Told) -> None:
    """A second request may end the grace period; one that names no time takes none back."""
    if event.hand_back_at is not None:
        state.hand_back_at, state.gone_at = event.hand_back_at, event.gone_at
    if state.phase is Phase.SERVING:
        state.phase = Phase.DRAINING
        state.due.append(Drain())


def _forget(state: State[J, A], jobs: Collection[J]) -> None:
    """Nothing is owed for these any more. Nothing is under way: the worker has left."""
    state.outbox = [each for each in state.waiting() if each.job not in jobs]
    state.sent = []
    state.brought = [each for each in state.brought if not all(job in jobs for job in each[1].jobs)]
    for job in jobs:
        state.leases.pop(job, None)
        if state.runs.get(job.id) is job:
            del state.runs[job.id]


def next_actions(state: State[J, A], now: float) -> list[Action[Ended[J, A], J]]:
    """What to do now."""
    begins = _take_in(state) if state.brought else []
    if state.phase is Phase.DRAINING and _has_come(state.hand_back_at, now):
        state.phase = Phase.HANDING_BACK
        state.due.append(HandBack())
    if state.due:
        due, state.due = [*state.due, *begins], []
        return due
    if (not state.leases or state.gone_at is not None) and _is_done(state, now):
        state.phase = Phase.GONE
        return [Leave()]
    actions, turn = begins, Turn.OTHERS if state.isolation.is_quiet else state.turn(now)
    if (wait := traffic.next_wait(state, now, turn)) is not None:
        actions.append(wait)
    exchange = traffic.next_exchange(state, now, turn)
    while exchange is not None:
        actions.append(exchange)
        exchange = traffic.next_exchange(state, now, turn) if state.backlog else None
    actions.append(SleepUntil(_next_time(state, now, turn)))
    return actions


def _take_in(state: State[J, A]) -> list[Action[Ended[J, A], J]]:
    """Begin what claims brought. What was under way when the worker was told to stop goes back, for others."""
    begins: list[Action[Ended[J, A], J]] = []
    for number, each in state.brought:
        if state.phase is not Phase.SERVING:
            state.leases |= dict.fromkeys(each.jobs, False)
            state.due += [Confirm(number), Release(each.jobs)]
            continue
        begins.append(Confirm(number))
        for job in each.jobs:
            state.leases[job] = False
            job_id = job.id
            if job_id in state.runs:
                begins.append(Overtaken(state.runs[job_id]))
            state.runs[job_id] = job
        begins.append(Begin(each.jobs))
    state.brought = []  # after they are among the leases, for who looks from another thread
    return begins


def _has_come(moment: float | None, now: float) -> bool:
    return moment is not None and now >= moment


def _is_done(state: State[J, A], now: float) -> bool:
    """Whether there is nothing to do and no reason to stay, or no time left."""
    if state.gone_at is not None and now >= state.gone_at:
        return True
    if state.leases or state.hooks or state.sent or state.outbox or (state.wait and state.wait.ask):
        return False
    return state.phase is not Phase.SERVING or (state.rules.burst and state.nothing_waits)


def _next_time(state: State[J, A], now: float, turn: Turn) -> float:
    """When there may be something to do although nothing happens; every poll at the latest."""
    times = [now + state.rules.poll]
    if now < state.resume_at:
        times.append(state.resume_at)
    elif not state.sent and state.claim_at < times[0] and traffic.welcome(state, turn) > 0:
        times.append(state.claim_at)
    if now < state.wait_at:
        times.append(state.wait_at)
    elif state.wrong_since is not None and state.can_break_off and not state.breaking_off:
        times.append(state.wrong_since + traffic.SETTLED_AFTER)
    if state.phase is Phase.DRAINING and state.hand_back_at is not None:
        times.append(state.hand_back_at)
    if state.gone_at is not None:
        times.append(state.gone_at)
    return min(times)
