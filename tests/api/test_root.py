"""What `GET /` says."""

import re

import httpx
import pytest


async def test_root_names_where_everything_is(http: httpx.AsyncClient) -> None:
    answer = await http.get("/")
    found = answer.json()
    assert (answer.status_code, found["name"]) == (200, "Embarq")
    assert re.match(r"\d+\.\d+|unknown", found["version"])
    for path in found["links"].values():
        assert (await http.get(path)).status_code in (200, 503), path  # 503: no worker is there


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
        ("application/json", "application/json"),
        ("*/*", "application/json"),
        ("", "application/json"),
    ],
)
async def test_root_is_a_page_for_those_who_ask_for_one(http: httpx.AsyncClient, accept: str, kind: str) -> None:
    answer = await http.get("/", headers={"Accept": accept})
    assert answer.headers["Content-Type"] == kind
    assert "/api/v1/definitions" in answer.text
    assert answer.headers["Vary"] == "Accept"
