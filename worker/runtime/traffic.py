"""What a worker has under way in Redis: exchanges, in which outcomes go and jobs come, and a wait for work.
While nothing runs, a claim stands behind the wait. Part of the planner."""

from collections.abc import Sequence
from typing import Any

from worker.runtime.actions import Ask, BreakOff, Exchange, Finish, PassOn, Wait
from worker.runtime.events import (
    A,
    Answered,
    BreakOffTried,
    Brought,
    Ended,
    Interrupted,
    J,
    Refused,
    Unavailable,
    Waited,
    WaitFailed,
)
from worker.runtime.isolation import Turn
from worker.runtime.state import Phase, State

LONGEST_BACKOFF = 2.0
RECONNECT_DELAY = 0.5
SETTLED_AFTER = 0.01  # a wait of the wrong kind is left for so long: a job that ends at once makes it right again
MOST_BYTES = 4 * 1024 * 1024  # of outcomes in one exchange, where there is more than one


def next_exchange(state: State[J, A], now: float, turn: Turn) -> Exchange[Ended[J, A]] | None:
    """The next round trip, if there is something to say and nothing to wait for. Under a backlog two are under way,
    each for half of the slots: Redis works on one while the worker runs the jobs of the other."""
    if now < state.resume_at or len(state.sent) > state.backlog:
        return None
    most, going = -(-state.rules.slots // 2) if state.backlog else state.rules.slots, state.outbox
    if len(going) > 1:
        going = going[: 1 if state.alone else _fitting(going, most)]
    limit = 0 if state.alone or now < state.claim_at else min(most, welcome(state, turn, len(going)))
    if limit <= 0 and not going:
        return None
    ask = Ask(state.claims.begin(), limit, turn is Turn.SUSPECTS) if limit > 0 else None
    unheard = state.claims.to_give_back(now) if state.claims.unheard else ()
    exchange = Exchange(tuple(going), ask, unheard, state.notified)
    state.sent = [*state.sent, exchange]  # before it leaves the outbox, for who looks from another thread
    state.outbox = state.outbox[len(going) :]
    return exchange


def welcome(state: State[J, A], turn: Turn, leaving: int = 0) -> int:
    """How many jobs may be asked for, once so many more have left, with those whose outcomes are on their way. Suspects
    come when nothing else may."""
    if state.phase is not Phase.SERVING or turn is Turn.NOTHING:
        return 0
    coming = int(state.wait is not None and state.wait.ask is not None)
    for exchange in state.sent:
        leaving += len(exchange.ended)
        coming += 0 if exchange.ask is None else exchange.ask.limit
    room = state.rules.slots - len(state.leases) - state.hooks + leaving
    if turn is Turn.OTHERS:
        return room - coming
    return 0 if coming else state.isolation.limit(room)


def _fitting(outbox: Sequence[Ended[J, A]], most: int) -> int:
    """How many of the first outcomes go together: `most`, unless they are large."""
    size = 0
    for count, each in enumerate(outbox[:most]):
        size += 0 if each.ack is None else each.ack.size
        if size > MOST_BYTES and count:
            return count
    return most


def ended(state: State[J, A], event: Ended[J, A]) -> None:
    """A job has ended: its outcome goes to Redis, and its slot is free once that has answered."""
    if state.leases.get(event.job) is not False:  # it was abandoned, and has ended at last
        return
    if event.ack is None:
        free(state, event.job)
    else:
        state.outbox.append(event)  # before it counts as known, for who looks from another thread
        state.leases[event.job] = True


def answered(state: State[J, A], event: Answered[J, A]) -> None:
    """Redis has answered an exchange."""
    exchange = event.exchange
    state.sent = [each for each in state.sent if each is not exchange]
    state.failures = 0
    if exchange.unheard:
        state.claims.given_back(exchange.unheard, event.at)
    is_news = state.notified != exchange.notified  # it came while the claim was under way, which may have missed it
    _settled(state, exchange.ended, event.stored)
    if exchange.ask is None:
        return
    if event.brought is None:
        state.claims.lost(exchange.ask.number)
        return
    brought(state, exchange.ask, event.brought, event.at)
    state.backlog = event.brought.more
    is_news = is_news or event.brought.more
    if not event.brought.jobs and not exchange.ask.suspects:
        is_news = is_news or state.turn(event.at) is Turn.SUSPECTS
    state.claim_at = 0.0 if is_news else event.at + _until_due(state, event.brought)


def _until_due(state: State[J, A], found: Brought[J]) -> float:
    """Seconds until there may be something to claim; jobs of plain arq clients leave no token."""
    return state.rules.poll if found.next_due_in is None else min(state.rules.poll, found.next_due_in)


def brought(state: State[J, A], ask: Ask, found: Brought[J], at: float) -> None:
    """A claim was answered."""
    if state.isolation.is_quiet and not (ask.suspects or found.suspects):
        state.nothing_waits = not (found.jobs or found.more) and found.next_due_in is None
    else:
        state.nothing_waits = state.isolation.heard(ask, found, at)
    if found.jobs:
        state.brought.append((ask.number, found))


def unanswered(state: State[J, A], event: Unavailable[J, A] | Interrupted[J, A]) -> None:
    """An exchange has no answer. Where that is not for this process, the next one waits a moment."""
    _failed(state, event.exchange)
    if isinstance(event, Unavailable):
        _back_off(state, event.at)


def _failed(state: State[J, A], exchange: Exchange[Ended[J, A]]) -> None:
    """Nobody knows what Redis did: its outcomes go again, before others, and the claim is asked back."""
    state.outbox = [*exchange.ended, *state.outbox]
    state.sent = [each for each in state.sent if each is not exchange]
    if exchange.ask is not None:
        state.claims.lost(exchange.ask.number)


def _back_off(state: State[J, A], at: float) -> None:
    """Try again later, and later each time."""
    state.failures += 1
    state.resume_at = at + min(LONGEST_BACKOFF, 0.1 * 2**state.failures)


def refused(state: State[J, A], event: Refused[J, A]) -> None:
    """Outcomes are sent one by one, so that only the one at fault is left out: its job starts anew when its lease has
    ended."""
    exchange = event.exchange
    _failed(state, exchange)
    if len(exchange.ended) == 1:
        state.outbox = state.outbox[1:]
        _settled(state, exchange.ended, [False])
    else:
        state.alone = max(state.alone, len(exchange.ended))
        _back_off(state, event.at)


def _settled(state: State[J, A], outcomes: Sequence[Ended[J, A]], stored: Sequence[bool]) -> None:
    state.alone = max(0, state.alone - 1)
    if outcomes:
        free(state, *[each.job for each in outcomes])
        state.due.append(Finish(outcomes, stored))


def free(state: State[J, A], *jobs: J, hooks: int = 0) -> None:
    """Slots are free. Room after none is a reason to look for work that others were not woken for."""
    was_full = state.taken >= state.rules.slots
    state.hooks -= hooks
    for job in jobs:
        del state.leases[job]
        if state.runs.get(job.id) is job:
            del state.runs[job.id]
    if was_full or state.rules.burst:
        notify(state)


def notify(state: State[Any, Any]) -> None:
    """Claim as soon as there is room."""
    state.notified += 1
    state.claim_at = 0.0


def next_wait(state: State[J, A], now: float, turn: Turn) -> Wait | BreakOff | None:
    """Wait where there is room, with a claim where the worker is idle. One that runs jobs is only told: one of them may
    block the loop, and would hold up what was handed over. A wait of the wrong kind is broken off."""
    takes_more, slots = state.phase is Phase.SERVING and turn is Turn.OTHERS, state.rules.slots
    taken = len(state.leases) + state.hooks
    idle = takes_more and not (taken or state.rules.burst) and slots > 1
    claims = idle and all(exchange.ask is None for exchange in state.sent)
    if state.wait is None:
        if now < state.wait_at or state.backlog or not takes_more or taken >= slots:
            return None
        state.wait = Wait(Ask(state.claims.begin(), 1) if claims else None)
        return state.wait
    if claims if state.wait.ask is None else not idle:
        return _broken_off(state, now)
    state.wrong_since = None
    return None


def _broken_off(state: State[J, A], now: float) -> BreakOff | None:
    """The wait under way is of the wrong kind: break it off, if it still is in a moment."""
    if state.wrong_since is None:
        state.wrong_since = now
    elif now >= state.wrong_since + SETTLED_AFTER and state.can_break_off and not state.breaking_off:
        state.breaking_off = True
        return BreakOff()
    return None


def waited(state: State[J, A], event: Waited[J]) -> None:
    """A wait has ended."""
    state.wait, state.wrong_since = None, None
    ask, found = event.wait.ask, event.brought
    if ask is not None and found is not None:
        brought(state, ask, found, event.at)
        if found.more or (not state.isolation.is_quiet and state.turn(event.at) is Turn.SUSPECTS):
            notify(state)
        elif found.next_due_in is not None:
            state.claim_at = min(state.claim_at, event.at + found.next_due_in)
        return
    if ask is not None:
        state.claims.lost(ask.number)
        notify(state)
    if event.token is not None:
        _woken(state, event.token, event.at)


def _woken(state: State[J, A], token: str, now: float) -> None:
    """A token has come. If there is no room any more, others are to hear it; this worker again when it has room."""
    if state.phase is Phase.SERVING and state.taken < state.rules.slots and state.turn(now) is Turn.OTHERS:
        notify(state)
    else:
        state.due.append(PassOn(token))


def wait_failed(state: State[J, A], event: WaitFailed) -> None:
    """The connection is a new one next time, after a moment; whether it may break off is not known."""
    waited(state, Waited(event.wait, None, None, event.at))
    state.wait_at, state.can_break_off = event.at + RECONNECT_DELAY, True


def break_off_tried(state: State[J, A], event: BreakOffTried) -> None:
    """Redis was asked. If the wait goes on all the same, it is asked again in a moment."""
    state.breaking_off, state.can_break_off = False, event.again
    if state.wrong_since is not None:
        state.wrong_since = event.at
