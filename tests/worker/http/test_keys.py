"""Who is served where a key is set."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from pydantic import SecretStr
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tests.serving import without_a_socket
from worker import http as engine
from worker.settings import Settings

KEY = "0123456789abcdef-ü"


async def hello(_request: object) -> PlainTextResponse:
    return PlainTextResponse("hello")


@pytest.fixture
async def http(redis_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(redis_url, KEY) as opened:
        yield opened


@asynccontextmanager
async def serving(redis_url: str, key: str) -> AsyncIterator[httpx.AsyncClient]:
    """An application that is served to those who have the key."""
    settings = Settings(REDIS_URL=redis_url, api_key=SecretStr(key))
    signed = Route("/signed", hello)
    app = engine.create_app(settings, routes=[signed, Route("/own", hello)], keyless=[signed])
    async with without_a_socket(app, raises=True) as opened:
        yield opened


@pytest.mark.parametrize("path", ["/api/v1/queues", "/own", "/health/workers", "/nowhere", "/health/live/x", "/"])
async def test_nobody_is_served_without_the_key(http: httpx.AsyncClient, path: str) -> None:
    for value in (
        None,
        "Bearer",
        "Bearer ",
        f"Bearer {KEY}0",
        f"Bearer {KEY[:-1]}",
        f"Basic {KEY}",
        KEY,
        "Bearer \xff",
    ):
        headers = [] if value is None else [(b"Authorization", value.encode())]
        answer = await http.get(path, headers=headers)
        assert answer.status_code == 401, value
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.headers["X-Request-ID"]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_key_opens_everything(http: httpx.AsyncClient, scheme: str) -> None:
    headers = [(b"Authorization", f"{scheme} {KEY}".encode())]
    for path, status in (("/api/v1/queues", 200), ("/own", 200), ("/health/workers", 503), ("/nowhere", 404)):
        assert (await http.get(path, headers=headers)).status_code in {status, 200}


# The letters' bytes of UTF-8 that are spaces in Latin-1: C3 A0, C4 85.
@pytest.mark.parametrize("key", ["0123456789abcdef-à", "à0123456789abcdef", "0123456789abcdefą", " 0123456789abcdef\n"])
async def test_key_may_begin_and_end_with_any_letter(redis_url: str, key: str) -> None:
    async with serving(redis_url, key) as http:
        for value, status in ((key.strip(), 200), (key.strip()[:-1], 401)):
            answer = await http.get("/own", headers=[(b"Authorization", f"Bearer {value}".encode())])
            assert answer.status_code == status, value


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/signed"])
async def test_keyless_routes_are_served_to_all(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.get(path)).status_code == 200
    assert (await http.post(path)).status_code == 401  # another method is another request
