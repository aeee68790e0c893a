import json
import pickle
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from pydantic import BaseModel

from worker.core import wire
from worker.core.errors import MalformedPayload, NotSerializable


@dataclass
class Point:
    x: int


class Model(BaseModel):
    at: datetime


def test_common_values_have_a_json_form() -> None:
    when = datetime(2026, 1, 2, tzinfo=UTC)
    written = wire.dumps({"p": Point(1), "m": Model(at=when), "t": (1, 2), "s": {3}})
    assert json.loads(written) == {"p": {"x": 1}, "m": {"at": "2026-01-02T00:00:00Z"}, "t": [1, 2], "s": [3]}


@pytest.mark.parametrize("value", [object(), lambda: None, {"deep": [object()]}])
def test_other_values_are_refused_by_name(value: object) -> None:
    with pytest.raises(NotSerializable, match="must be JSON"):
        wire.dumps(value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pickle.dumps({"f": "x"}), "pickle"),
        (b"not json", "malformed"),
        (b'{"a": []}', "missing required field `f`"),
        (b'{"t": "one", "f": "x", "a": [], "k": {}, "et": 1}', r"\$\.t"),
        (b"[]", "Expected `object`"),
        (b"\xff", "malformed|utf-8"),
    ],
)
def test_malformed_payloads_are_refused_with_a_reason(data: bytes, message: str) -> None:
    with pytest.raises(MalformedPayload, match=message):
        wire.loads(data, wire.Payload)


def test_arq_payload_is_read() -> None:
    data = json.dumps({"t": None, "f": "x", "a": [1], "k": {"b": 2}, "et": 5}).encode()
    payload = wire.loads(data, wire.Payload)
    assert (payload.job, payload.args, payload.kwargs, payload.enqueued_ms) == ("x", [1], {"b": 2}, 5)
