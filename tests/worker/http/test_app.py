"""The HTTP API alone, and with what a service adds to it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.serving import without_a_socket
from worker import EmbarqError
from worker.http import Shared, create_app, shared
from worker.http.json import JsonResponse
from worker.settings import Settings


@pytest.fixture
def settings(tmp_path: Path, redis_url: str) -> Settings:
    return Settings(data_dir=tmp_path, REDIS_URL=redis_url, jobs=("tests.worker.process_jobs",))


async def test_engine_alone_serves_jobs_and_nothing_of_the_platform(settings: Settings) -> None:
    async with without_a_socket(create_app(settings)) as http:
        assert (await http.get("/health/ready")).status_code == 200
        assert (await http.get("/api/v1/jobs/nothing")).status_code == 404
        assert (await http.post("/api/v1/register", json={})).status_code == 404
        assert (await http.get("/stand-ins/sms")).status_code == 404


class Sold(EmbarqError):
    """An error of the service."""


async def sell(request: Request) -> Response:
    if request.method == "POST":
        raise Sold("it is gone")
    return JsonResponse({"shop": request.state.shop, "ready": await shared(request).client.redis.ping() is not None})


async def test_service_adds_endpoints_state_and_errors(settings: Settings) -> None:
    lives: list[str] = []

    @asynccontextmanager
    async def lifespan(opened: Shared) -> AsyncIterator[Mapping[str, object]]:
        assert opened.client
        lives.append("begins")
        yield {"shop": "open"}
        lives.append("ends")

    own = Route("/api/v1/sell", sell, methods=["GET", "POST"])
    app = create_app(settings, routes=[own], lifespan=lifespan, statuses={Sold: HTTPStatus.GONE})
    async with without_a_socket(app) as http:
        assert (await http.get("/api/v1/sell")).json() == {"shop": "open", "ready": True}
        answer = await http.post("/api/v1/sell")
        assert (answer.status_code, answer.json()["detail"]) == (410, "it is gone")
        assert (await http.get("/api/v1/queues")).status_code == 200
    assert lives == ["begins", "ends"]
