"""Searches orders of events in which the planner does what it must not. `PLANNER_CASES` says how many."""

import os

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.worker.runtime.model import LARGE, LEASE, Ack, World
from worker.core.config import Suspects

CASES = int(os.environ.get("PLANNER_CASES", "2000"))
MOST_STEPS = 90
MOST_ROUNDS = 1500


def happens(world: World, choice: int) -> None:
    """One thing, of those that are possible now."""
    kind, which = choice % 32, choice // 32
    tasks, under_way = world.tasks, world.under_way
    if kind < 4 and not world.state.rules.burst:
        world.enqueue()
    elif kind < 7 and tasks:
        job = tasks[which % len(tasks)]
        what = ("done", "again", "done", "back" if world.cancelled else "done")[which % 4]
        world.end(job, Ack(job, what, size=LARGE if which == 6 else 1))
    elif kind == 7 and tasks:
        end_badly(world, which)
    elif kind < 17 and under_way:
        go_between(world, kind, which)
    elif kind < 23:
        wait(world, kind)
    else:
        else_happens(world, kind, which)


def else_happens(world: World, kind: int, which: int) -> None:
    if kind == 23 and world.breaks_off:
        world.try_break_off(again=which != 7)
    elif kind == 24 and world.after:
        world.end_hooks()
    elif kind == 25:
        world.renew()
    elif kind == 26:
        world.notify()
    elif kind == 27 and which < 2:
        world.tell((5.0, None)[which])
    elif kind < 31:
        world.pass_time((0.004, 0.02, 0.1, 0.3, 0.5, 1.0, 2.0, LEASE)[which])
    else:
        world.pass_time(max(0.001, world.wakes_at - world.now))


def end_badly(world: World, which: int) -> None:
    job = world.tasks[which % len(world.tasks)]
    if which < 3 and job.id not in world.bad_before:
        world.bad_before.add(job.id)
        world.end(job, Ack(job, "done", bad=True))
    elif which < 6:
        world.abandon(job)
    elif world.deaf:
        world.end(world.deaf.pop(), Ack(job, "done"))
    else:
        world.lose(job)


def go_between(world: World, kind: int, which: int) -> None:
    sent = world.under_way[which % len(world.under_way)]
    if kind < 13:
        if not sent.reached:
            world.reach(sent)
        if which < 6:
            world.answer(sent)
    elif kind == 13:
        world.cut(sent)
    elif kind == 14:
        world.refuse(sent) if not sent.reached else world.cut(sent)
    elif kind == 15:
        if not sent.reached:
            world.reach(sent)
        world.forget_claim(sent)
        world.answer(sent)
    elif which == 7:
        world.interrupt(sent)


def wait(world: World, kind: int) -> None:
    if kind < 19:
        if world.late:
            world.reach_late()
    elif world.waits is None:
        return
    elif kind == 22:
        world.break_wait()
    elif world.waited is not None:
        world.hear_wait()
    else:
        world.end_wait()


@pytest.mark.timeout(120 + CASES / 20)
@settings(
    max_examples=CASES,
    deadline=None,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
@given(
    slots=st.integers(1, 4),
    kind=st.integers(0, 63),
    jobs=st.integers(0, 6),
    choices=st.binary(min_size=10, max_size=MOST_STEPS),
)
def test_no_order_of_events_breaks_a_promise(slots: int, kind: int, jobs: int, choices: bytes) -> None:
    """Never a job taken after the stop, never more running than slots or asked for than there is room for, no outcome
    dropped, no job begun twice under one lease; it gets all jobs done, and always leaves."""
    suspects = (Suspects.HERE, Suspects.HERE, Suspects.ELSEWHERE, Suspects.ONLY)[kind % 4]
    burst, hooks, freezes = bool(kind & 4) or suspects is Suspects.ONLY, bool(kind & 8), bool(kind & 16)
    world = World(slots, burst=burst, suspects=suspects, hooks=hooks)
    for _ in range(jobs):
        world.enqueue()
    for choice in choices:
        world.act()
        if world.left:
            return
        happens(world, choice)
    if not world.told and suspects is Suspects.HERE:
        world.go_on_well(lambda: not (world.redis.suspects or world.tasks) and world.redis.is_empty, MOST_ROUNDS)
    if world.left:
        return
    leaves(world, freezes=freezes)


def leaves(world: World, *, freezes: bool) -> None:
    """In time, also where Redis says nothing any more."""
    world.tell(1.0)
    begun_at, gone_at = world.now, world.state.gone_at
    assert gone_at is not None
    has_time = world.now < gone_at - 2.0 and world.state.can_break_off and world.now >= world.state.resume_at
    if freezes:
        while not world.left:
            world.act()
            world.pass_time(max(0.001, world.wakes_at - world.now))
            assert world.left or world.now <= max(gone_at, begun_at) + 0.01
    else:
        world.go_on_well(lambda: False, MOST_ROUNDS)
        assert world.now < gone_at or not has_time, "it leaves late although Redis answers"
    assert world.left
