"""When a stop comes, by the requests for it."""

import signal

import pytest

from worker.core.stopping import StopPlan, stops_here


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_first_request_gives_the_whole_grace(clock: Clock) -> None:
    plan = StopPlan(25, clock)
    assert not plan.is_on
    assert (plan.hand_back_at, plan.leave_at, plan.gone_at) == (None, None, None)
    plan.signal(signal.SIGTERM)
    assert (plan.is_on, plan.hand_back_at, plan.leave_at, plan.gone_at) == (True, 125.0, 127.5, 128.0)
    assert not plan.has_come(plan.hand_back_at)
    clock.now = 125.0
    assert plan.has_come(plan.hand_back_at)


@pytest.mark.parametrize(
    ("second", "after", "hand_back_at"),
    [
        ("SIGTERM", 0.001, 125.0),
        ("SIGTERM", 1.999, 125.0),
        ("SIGTERM", 2.0, 102.0),
        ("SIGTERM", 26.0, 125.0),
        ("SIGINT", 0.001, 100.001),
        ("stop", 10.0, 125.0),
        ("now", 0.5, 100.5),
    ],
)
def test_what_a_second_request_does(clock: Clock, second: str, after: float, hand_back_at: float) -> None:
    plan = StopPlan(25, clock)
    plan.signal(signal.SIGTERM)
    clock.now += after
    request(plan, second)
    assert plan.hand_back_at == pytest.approx(hand_back_at)


@pytest.mark.parametrize("order", [("stop", "SIGTERM"), ("SIGTERM", "stop"), ("stop", "SIGINT")])
def test_signal_to_a_whole_group_is_heard_once(clock: Clock, order: tuple[str, str]) -> None:
    """By the child itself and from its supervisor, whichever is first."""
    plan = StopPlan(25, clock)
    for each in order:
        request(plan, each)
        clock.now += 0.5
    assert plan.hand_back_at == 125.0
    clock.now += 2.0
    plan.signal(signal.SIGTERM)
    assert plan.hand_back_at == clock.now


def test_signal_again_and_again_counts_every_two_seconds(clock: Clock) -> None:
    plan = StopPlan(25, clock)
    for _ in range(5):
        plan.signal(signal.SIGINT)
        clock.now += 0.5
    assert plan.hand_back_at == 102.0


def request(plan: StopPlan, name: str) -> None:
    if name == "stop":
        plan.stop()
    elif name == "now":
        plan.hurry()
    else:
        plan.signal(signal.Signals[name])


@pytest.mark.parametrize(("hangup", "heard"), [(signal.SIG_IGN, False), (signal.SIG_DFL, True)])
def test_hangup_is_heard_unless_nohup_ignores_it(hangup: signal.Handlers, heard: bool) -> None:
    before = signal.signal(signal.SIGHUP, hangup)
    try:
        found = stops_here()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (signal.SIGHUP in found) is heard
    assert {signal.SIGTERM, signal.SIGINT} <= set(found)
