import pytest

from worker.core.job import Priority
from worker.core.keys import parse_queue_key, queue_key


def test_normal_level_is_arqs_own_key() -> None:
    assert queue_key("default") == "arq:queue"
    assert queue_key("emails") == "arq:queue:emails"


@pytest.mark.parametrize("priority", list(Priority))
@pytest.mark.parametrize("name", ["default", "emails", "a.b-c_d"])
def test_names_survive_the_way_there_and_back(name: str, priority: Priority) -> None:
    assert parse_queue_key(queue_key(name, priority)) == (name, priority)


def test_levels_have_keys_of_their_own() -> None:
    assert len({queue_key("x", priority) for priority in Priority}) == len(Priority)
