"""What requests to stop `embarq dev` lead to."""

import signal

import pytest

from worker.dev import stops
from worker.dev.stops import Stage, Stops


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stops, "time", clock)
    return clock


@pytest.mark.parametrize(
    ("signals", "stage"),
    [
        ([], Stage.SERVING),
        ([("SIGINT", 0.0)], Stage.GRACE),
        ([("SIGINT", 0.0), ("SIGINT", 0.01)], Stage.GRACE),
        ([("SIGINT", 0.0), ("SIGINT", 0.1)], Stage.HAND_BACK),
        ([("SIGINT", 0.0), ("SIGINT", 0.1), ("SIGINT", 0.1)], Stage.KILL),
        ([("SIGINT", 0.0), ("SIGINT", 0.1), ("SIGINT", 0.1), ("SIGINT", 0.1)], Stage.KILL),
        ([("SIGTERM", 0.0)], Stage.GRACE),
        ([("SIGTERM", 0.0), ("SIGTERM", 0.5)], Stage.GRACE),
        ([("SIGTERM", 0.0), ("SIGTERM", 2.5)], Stage.HAND_BACK),
        ([("SIGTERM", 0.0), ("SIGTERM", 2.5), ("SIGTERM", 2.5)], Stage.HAND_BACK),
        ([("SIGINT", 0.0), ("SIGTERM", 0.5)], Stage.GRACE),
        ([("SIGHUP", 0.0)], Stage.HAND_BACK),
        ([("SIGHUP", 0.0), ("SIGTERM", 0.01)], Stage.HAND_BACK),
        ([("SIGINT", 0.0), ("SIGHUP", 0.1)], Stage.HAND_BACK),
        ([("SIGHUP", 0.0), ("SIGHUP", 5.0)], Stage.HAND_BACK),
    ],
)
def test_stages(clock: Clock, signals: list[tuple[str, float]], stage: Stage) -> None:
    asked = Stops(25.0)
    for name, later in signals:
        clock.now += later
        asked.hear(signal.Signals[name])
    assert asked.stage is stage
    assert asked.plan.is_on == (stage >= Stage.GRACE)
    assert asked.plan.has_come(asked.plan.hand_back_at) == (stage >= Stage.HAND_BACK)
