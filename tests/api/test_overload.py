import asyncio

import httpx
import pytest

from worker.broker import completions as ends


async def test_more_waits_than_a_process_takes_are_told_to_come_again(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ends, "MOST_WAITERS", 2)
    made = await http.post("/api/v1/jobs", json={"job": "echo", "args": {"value": 1}, "options": {"delay": 60}})
    address = made.headers["Location"]
    answers = await asyncio.gather(*(http.get(f"{address}?wait=1") for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503]
    (refused,) = [answer for answer in answers if answer.status_code == 503]
    assert refused.headers["Retry-After"]
