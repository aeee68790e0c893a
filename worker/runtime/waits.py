"""How a worker hears of work: it waits in Redis, with a claim behind the wait while it is idle. Part of the planner."""

from worker.runtime import traffic
from worker.runtime.actions import Ask, BreakOff, PassOn, Wait
from worker.runtime.events import A, BreakOffTried, J, Waited, WaitFailed
from worker.runtime.isolation import Turn
from worker.runtime.state import State

RECONNECT_DELAY = 0.5
SETTLED_AFTER = 0.01  # a wait of the wrong kind is left for so long: a job that ends at once makes it right again


def next_wait(state: State[J, A], now: float) -> Wait | BreakOff | None:
    """Wait where there is room, with a claim where the worker is idle. One that runs jobs is only told: one of them may
    block the loop, and would hold up what was handed over. A wait of the wrong kind is broken off."""
    idle = state.is_idle(now)
    if state.wait is None:
        if now < state.wait_at or state.backlog or not state.has_room(now):
            return None
        state.wait = Wait(Ask(state.claims.begin(), 1) if idle and not state.asked_for else None)
    elif not (not idle if state.blocking_claim else idle and not state.asked_for):
        state.wrong_since = None
        return None
    elif state.wrong_since is None:
        state.wrong_since = now
        return None
    elif now < state.wrong_since + SETTLED_AFTER or state.breaking_off or not state.can_break_off:
        return None
    else:
        state.breaking_off = True
        return BreakOff()
    return state.wait


def next_time(state: State[J, A], now: float) -> float:
    """When that may change although nothing happens."""
    if now < state.wait_at:
        return state.wait_at
    if state.wrong_since is not None and state.can_break_off and not state.breaking_off:
        return state.wrong_since + SETTLED_AFTER
    return now + state.rules.poll


def waited(state: State[J, A], event: Waited[J]) -> None:
    """A wait has ended."""
    state.wait, state.wrong_since = None, None
    ask, brought = event.wait.ask, event.brought
    if ask is None:
        if event.token is not None:
            _woken(state, event.token, event.at)
    elif brought is None:
        state.claims.lost(ask.number)
        traffic.notify(state)
    else:
        traffic.brought(state, ask, brought, event.at)
        if brought.more or state.turn(event.at) is Turn.SUSPECTS:
            traffic.notify(state)
        elif brought.next_due_in is not None:
            state.claim_at = min(state.claim_at, event.at + brought.next_due_in)


def _woken(state: State[J, A], token: str, now: float) -> None:
    """A token has come. If there is no room any more, others are to hear it; this worker again when it has room."""
    if state.has_room(now):
        traffic.notify(state)
    else:
        state.due.append(PassOn(token))


def failed(state: State[J, A], event: WaitFailed) -> None:
    """The connection is a new one next time, after a moment; whether it may break off is not known."""
    waited(state, Waited(event.wait, None, None, event.at))
    state.wait_at, state.can_break_off = event.at + RECONNECT_DELAY, True


def break_off_tried(state: State[J, A], event: BreakOffTried) -> None:
    """Redis was asked. If the wait goes on all the same, it is asked again in a moment."""
    state.breaking_off, state.can_break_off = False, event.again
    if state.wrong_since is not None:
        state.wrong_since = event.at
