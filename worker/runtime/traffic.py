"""A worker's exchanges with Redis: outcomes go and jobs come in the same round trips. Part of the planner."""

from collections.abc import Sequence
from typing import Any

from worker.runtime.actions import Ask, Exchange, Finish
from worker.runtime.events import A, Answered, Brought, Ended, J, Refused
from worker.runtime.isolation import Turn
from worker.runtime.state import State

LONGEST_BACKOFF = 2.0
MOST_BYTES = 4 * 1024 * 1024  # of outcomes in one exchange, where there is more than one


def next_exchange(state: State[J, A], now: float) -> Exchange[Ended[J, A]] | None:
    """The next round trip, if there is something to say and nothing to wait for. Under a backlog two are under way,
    each for half of the slots: Redis works on one while the worker runs the jobs of the other."""
    if now < state.resume_at or len(state.sent) > state.backlog:
        return None
    most = -(-state.rules.slots // 2) if state.backlog else state.rules.slots
    ended = state.outbox[: 1 if state.alone else _fitting(state.outbox, most)]
    ask = None if state.alone else _ask(state, now, len(ended), most)
    if ask is None and not ended:
        return None
    exchange = Exchange(tuple(ended), ask, state.claims.to_give_back(now), state.notified)
    state.sent = [*state.sent, exchange]  # before it leaves the outbox, for who looks from another thread
    state.outbox = state.outbox[len(ended) :]
    return exchange


def _fitting(outbox: Sequence[Ended[J, A]], most: int) -> int:
    """How many of the first outcomes go together: `most`, unless they are large."""
    size = 0
    for count, ended in enumerate(outbox[:most]):
        size += ended.size
        if size > MOST_BYTES and count:
            return count
    return most


def _ask(state: State[J, A], now: float, leaving: int, most: int) -> Ask | None:
    limit = 0 if now < state.claim_at else min(most, _welcome(state, now, state.leaving + leaving))
    return Ask(state.claims.begin(), limit, state.turn(now) is Turn.SUSPECTS) if limit > 0 else None


def _welcome(state: State[J, A], now: float, leaving: int) -> int:
    """How many jobs may be asked for, once so many more have left. Suspects come when nothing else may."""
    room, coming = state.room(leaving), state.asked_for + state.blocking_claim
    turn = state.turn(now)
    if turn is Turn.OTHERS:
        return room - coming
    return 0 if turn is Turn.NOTHING or coming else state.isolation.limit(room)


def next_time(state: State[J, A], now: float) -> float:
    """When there may be something to exchange although nothing happens."""
    if now < state.resume_at:
        return state.resume_at
    return state.claim_at if not state.sent and _welcome(state, now, 0) > 0 else now + state.rules.poll


def ended(state: State[J, A], event: Ended[J, A]) -> None:
    """A job has ended: its outcome goes to Redis, and its slot is free once that has answered."""
    if state.leases.get(event.job) is not False:  # it was abandoned, and has ended at last
        return
    if event.ack is None:
        free(state, event.job)
    else:
        state.leases[event.job] = True
        state.outbox.append(event)


def answered(state: State[J, A], event: Answered[J, A]) -> None:
    """Redis has answered an exchange."""
    exchange = event.exchange
    state.sent = [each for each in state.sent if each is not exchange]
    state.failures = 0
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


def _until_due(state: State[J, A], brought: Brought[J]) -> float:
    """Seconds until there may be something to claim; jobs of plain arq clients leave no token."""
    return state.rules.poll if brought.next_due_in is None else min(state.rules.poll, brought.next_due_in)


def brought(state: State[J, A], ask: Ask, brought: Brought[J], at: float) -> None:
    """A claim was answered."""
    state.claims.answered(ask.number)
    state.nothing_waits = state.isolation.heard(ask, brought, at)
    state.brought.append((ask.number, brought))


def failed(state: State[J, A], exchange: Exchange[Ended[J, A]]) -> None:
    """Nobody knows what Redis did: its outcomes go again, before others, and the claim is asked back."""
    state.outbox = [*exchange.ended, *state.outbox]
    state.sent = [each for each in state.sent if each is not exchange]
    if exchange.ask is not None:
        state.claims.lost(exchange.ask.number)


def back_off(state: State[J, A], at: float) -> None:
    """Try again later, and later each time."""
    state.failures += 1
    state.resume_at = at + min(LONGEST_BACKOFF, 0.1 * 2**state.failures)


def refused(state: State[J, A], event: Refused[J, A]) -> None:
    """Outcomes are sent one by one, so that only the one at fault is left out: its job starts anew when its lease has
    ended."""
    exchange = event.exchange
    failed(state, exchange)
    if len(exchange.ended) == 1:
        state.outbox = state.outbox[1:]
        _settled(state, exchange.ended, [False])
    else:
        state.alone = max(state.alone, len(exchange.ended))
        back_off(state, event.at)


def _settled(state: State[J, A], ended: Sequence[Ended[J, A]], stored: Sequence[bool]) -> None:
    state.alone = max(0, state.alone - 1)
    if ended:
        free(state, *[each.job for each in ended])
        state.due.append(Finish(ended, stored))


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
