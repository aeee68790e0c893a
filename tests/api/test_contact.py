from pathlib import Path

import httpx
import pytest

from tests.support import eventually, logged


async def test_answers_first_and_works_afterwards(http: httpx.AsyncClient, tmp_path: Path) -> None:
    message = {"name": "Ada", "number": "+15550100", "message": "hello"}
    answer = await http.post("/api/v1/contact", json=message)
    assert answer.status_code == 202

    async def kept() -> str | None:
        file = tmp_path / "contacts.jsonl"
        return file.read_text() if file.exists() else None

    assert '"name": "Ada"' in await eventually(kept)


async def test_wrong_field_is_named(http: httpx.AsyncClient) -> None:
    answer = await http.post("/api/v1/contact", json={"name": "Ada", "number": "no", "message": "x"})
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/number"]


async def test_a_failing_task_is_logged_and_others_run(http: httpx.AsyncClient) -> None:
    # Nothing serves the SMS stand-in's port here, so thanking fails.
    with logged("embarq.api") as lines:
        await http.post("/api/v1/contact", json={"name": "A", "number": "+15550100", "message": "x"})
    assert [line["event"] for line in lines] == ["request", "task after the response failed"]
    assert lines[1]["task"] == "_thank"
    assert lines[0]["request_id"] == lines[1]["request_id"]


@pytest.mark.parametrize(("key", "status", "count"), [("k1", [201, 200], 1), (None, [201, 201], 2)])
async def test_stand_in_lists_what_it_got_and_drops_a_known_key(
    http: httpx.AsyncClient, key: str | None, status: list[int], count: int
) -> None:
    headers = {"Idempotency-Key": key} if key else {}
    message = {"to": "+15550100", "message": "hi"}
    answers = [await http.post("/stand-ins/sms", json=message, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == status
    listed = (await http.get("/stand-ins/sms")).json()
    assert listed["count"] == count
    assert listed["messages"][0]["to"] == "+15550100"
