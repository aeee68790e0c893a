"""The benchmarks of other systems, which are not installed here, parse, and have what `command.main` asks of them."""

import ast
from pathlib import Path

import pytest

from benchmarks.systems import ALL

PEERS = Path(__file__).parent.parent / "benchmarks" / "peers"


@pytest.mark.parametrize("peer", sorted({system.peer for system in ALL}))
def test_peer_has_a_worker_and_a_producer(peer: str) -> None:
    tree = ast.parse((PEERS / f"{peer}.py").read_text())
    assert {"worker", "producer"} <= {
        each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert isinstance(tree.body[-1], ast.If), "python -m runs it"


@pytest.mark.parametrize(
    ("peer", "call"),
    [("celery", "Celery(broker, backend)"), ("dramatiq", "RedisBroker(url)"), ("taskiq", "with_result_backend()")],
)
def test_words_of_other_libraries_are_theirs(peer: str, call: str) -> None:
    calls = [each for each in ast.walk(ast.parse((PEERS / f"{peer}.py").read_text())) if isinstance(each, ast.Call)]
    name = {
        id(each): each.func.attr if isinstance(each.func, ast.Attribute) else ast.unparse(each.func) for each in calls
    }
    found = {f"{name[id(each)]}({', '.join(word.arg for word in each.keywords if word.arg)})" for each in calls}
    assert call in found
