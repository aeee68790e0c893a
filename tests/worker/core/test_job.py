import pytest

from worker.core.job import TRANSITIONS, Progress, State

ENDED = {State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED}


def test_ended_states_lead_nowhere() -> None:
    assert {state for state in State if state.ended} == ENDED


def test_every_state_has_its_row() -> None:
    assert set(TRANSITIONS) == set(State)


@pytest.mark.parametrize("state", [s for s in State if s not in ENDED])
def test_every_waiting_or_running_state_can_end(state: State) -> None:
    seen, ahead = set(), {state}
    while ahead:
        seen |= ahead
        ahead = {after for before in ahead for after in TRANSITIONS[before]} - seen
    assert seen >= ENDED


@pytest.mark.parametrize(
    ("progress", "percent"),
    [
        (Progress(0, 10), 0.0),
        (Progress(1, 3), 33.3),
        (Progress(7, 5), 100.0),
        (Progress(5), None),
        (Progress(0, 0), None),
    ],
)
def test_percent(progress: Progress, percent: float | None) -> None:
    assert progress.percent == percent
