"""Whatever hangs, and whoever is slow: each request is answered in time, and nobody learns how we are built."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from api.app import create_app
from settings import Settings
from tests.api.conftest import serving
from tests.support import eventually, logged
from worker.http.budget import Budget
from worker.system.loop_watch import LoopWatch, watching

DRIVERS = re.compile(
    r"127\.0\.0\.1|errno|asyncpg|sqlalchemy|hiredis|SELECT|INSERT|Traceback|Connect call", re.IGNORECASE
)


@asynccontextmanager
async def black_hole() -> AsyncIterator[int]:
    """A server that takes every connection and never says a word."""
    connections = set()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        while await reader.read(65536):
            pass

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in connections:
            writer.close()


BODIES: dict[str, object] = {
    "/api/v1/jobs": {"job": "echo", "args": {"value": 1}},
    "/api/v1/jobs/bulk": {"jobs": [{"job": "echo", "args": {"value": 1}}]},
    "/api/v1/workflows": {"chain": [{"job": "echo", "args": {"value": 1}}]},
    "/api/v1/schedules": {"name": "x", "job": "echo", "cron": "* * * * *", "args": {"value": 1}},
    "/api/v1/register": {"name": "A", "email": "a@example.com"},
    "/api/v1/password-reset": {"email": "a@example.com"},
    "/api/v1/enrolments": {"student_id": 1, "course_id": 1},
    "/api/v1/courses/1/complete": {"student_id": 1},
    "/api/v1/orders": {"user_id": 1, "lines": [{"product_id": 1}]},
    "/api/v1/messages/bulk": {"numbers": ["+15550100"], "message": "x"},
}


def requests_of(app: Starlette) -> list[tuple[str, str]]:
    """Every route of the application that does more than answer from memory."""
    found = []
    for mount in app.routes:
        for route in mount.routes if isinstance(mount, Mount) else [mount]:
            assert isinstance(route, Route)
            prefix = mount.path if isinstance(mount, Mount) else ""
            path = prefix + re.sub(r"\{(\w+):int\}", "1", re.sub(r"\{\w+\}", "default", route.path))
            found += [(method, path) for method in route.methods or () if method != "HEAD"]
    return [each for each in found if "stand-ins" not in each[1]]


async def test_every_route_answers_within_ten_seconds_whatever_hangs(settings_for: Callable[..., Settings]) -> None:
    async with black_hole() as redis, black_hole() as postgres:
        settings = settings_for(
            REDIS_URL=f"redis://127.0.0.1:{redis}", DATABASE_URL=f"postgres://u:p@127.0.0.1:{postgres}/d"
        )
        routes = requests_of(create_app(settings))
        assert len(routes) > 35

        async def ask(http: httpx.AsyncClient, method: str, path: str) -> tuple[str, float, httpx.Response]:
            started = time.monotonic()
            answer = await http.request(method, path, json=BODIES.get(path, {}) if method == "POST" else None)
            return f"{method} {path}", time.monotonic() - started, answer

        async with serving(settings) as http:
            answers = await asyncio.gather(*(ask(http, method, path) for method, path in routes))
    for name, seconds, answer in answers:
        assert seconds < 11, name
        assert answer.status_code == 503 or answer.status_code < 500, (name, answer.text)
        assert not DRIVERS.search(answer.text), (name, answer.text)
        if answer.status_code == 503 and "/health" not in name:
            assert answer.headers["Content-Type"] == "application/problem+json", name
            assert int(answer.headers["Retry-After"]) > 0, name
    unserved = {name for name, _, answer in answers if answer.status_code == 503}
    assert {"POST /api/v1/jobs", "GET /api/v1/jobs", "POST /api/v1/register", "GET /health/ready"} <= unserved


async def test_what_is_away_is_said_without_the_drivers_words(settings_for: Callable[..., Settings]) -> None:
    settings = settings_for(REDIS_URL="redis://127.0.0.1:1", DATABASE_URL="postgres://u:p@127.0.0.1:1/d")
    async with serving(settings) as http:
        with logged("embarq.api") as lines, logged("embarq.database") as database_lines:
            answers = [
                await http.post("/api/v1/jobs", json=BODIES["/api/v1/jobs"]),
                await http.get("/api/v1/jobs"),
                await http.post("/api/v1/register", json=BODIES["/api/v1/register"]),
                await http.get("/api/v1/queues"),
                await http.get("/health/ready"),
            ]
    for answer in answers:
        assert answer.status_code == 503
        assert "not available" in answer.text
        assert not DRIVERS.search(answer.text), answer.text
    reasons = [line["reason"] for line in (*lines, *database_lines) if "reason" in line]
    assert sum("Error 111 connecting" in reason for reason in reasons) == 3, "what Redis' driver said is in the log"
    assert sum("[Errno 111] Connect call failed" in reason for reason in reasons) == 3, "and what Postgres' said"


async def test_without_a_database_the_setting_is_named(settings_for: Callable[..., Settings], redis_url: str) -> None:
    async with serving(settings_for(REDIS_URL=redis_url)) as http:
        assert "DATABASE_URL must be set" in (await http.get("/api/v1/jobs")).json()["detail"]


# The budget


@asynccontextmanager
async def budgeted(seconds: float) -> AsyncIterator[tuple[httpx.AsyncClient, list[str]]]:
    told: list[str] = []

    async def hang(request: Request) -> Response:
        await request.body()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.append("cancelled")
            raise
        return JSONResponse({})

    async def hang_twice(_request: Request) -> Response:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.5)
            told.append("cleaned up")
        return JSONResponse({})

    async def wait(request: Request) -> Response:
        await asyncio.sleep(float(request.query_params["wait"]))
        return JSONResponse({"waited": True})

    async def stream(_request: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            for _ in range(5):
                await asyncio.sleep(seconds / 2)
                yield b"x"

        return StreamingResponse(parts())

    routes = [
        Route("/hang", hang, methods=["GET", "POST"]),
        Route("/hang-twice", hang_twice),
        Route("/wait", wait, methods=["GET", "POST"]),
        Route("/stream", stream),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(Budget, seconds=seconds)])
    async with served(app) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        yield http, told


@asynccontextmanager
async def served(app: Starlette) -> AsyncIterator[int]:
    """The application behind a real socket."""
    config = uvicorn.Config(app, port=0, log_config=None, access_log=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    serving_ = asyncio.create_task(server.serve())

    async def port() -> int | None:
        return server.servers[0].sockets[0].getsockname()[1] if server.started else None

    yield await eventually(port)
    server.should_exit = True
    await serving_


async def test_a_request_over_its_budget_is_cancelled_and_answered_503() -> None:
    async with budgeted(0.2) as (http, told):
        with logged("embarq.api") as lines:
            answer = await http.post("/hang", json={})
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
        assert told == ["cancelled"]
        assert [(line["event"], line["path"]) for line in lines] == [("request took too long", "/hang")]


@pytest.mark.alone
async def test_an_answer_does_not_wait_for_clean_up_that_hangs_as_well() -> None:
    async with budgeted(0.1) as (http, told):
        started = time.monotonic()
        assert (await http.get("/hang-twice")).status_code == 503
        assert time.monotonic() - started < 0.5
        assert told == []

        async def cleaned_up() -> bool:
            return told == ["cleaned up"]

        await eventually(cleaned_up)


async def test_waits_and_streams_are_apart_from_the_budget() -> None:
    async with budgeted(0.2) as (http, _):
        assert (await http.get("/wait?wait=0.5")).json() == {"waited": True}
        assert (await http.post("/wait?wait=0.5")).status_code == 503, "only look-ups wait"
        assert (await http.get("/stream")).content == b"xxxxx"


# Bodies


@asynccontextmanager
async def connection(settings: Settings) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with served(create_app(settings)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield reader, writer
        finally:
            writer.close()


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    body = await reader.readexactly(int(headers["content-length"]))
    return int(head[0].split()[1]), headers, body


BODY = b'{"job":"echo","args":{"value":1}}'
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
POST = b"POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\n"
SMUGGLED = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("body", [CHUNKED, BODY, b"0\r\n\r\n" + SMUGGLED, b""])
async def test_a_body_with_two_lengths_is_400_and_nothing_behind_it_is_served(
    settings_for: Callable[..., Settings], redis_url: str, body: bytes
) -> None:
    async with connection(settings_for(REDIS_URL=redis_url)) as (reader, writer):
        writer.write(POST + b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n" % len(BODY) + body)
        status, headers, answer = await answer_of(reader)
        assert (status, headers["content-type"]) == (400, "application/problem+json")
        assert headers["connection"] == "close"
        assert b"must be given once" in answer
        assert await reader.read() == b""


async def test_a_slow_body_is_408(
    settings_for: Callable[..., Settings], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.http.bodies.LONGEST_PAUSE", 0.3)
    monkeypatch.setattr("worker.http.bodies.LONGEST_WHOLE", 0.6)
    async with connection(settings_for(REDIS_URL=redis_url)) as (reader, writer):
        writer.write(POST + b"Content-Length: %d\r\n\r\n" % len(BODY))
        status, headers, _ = await answer_of(reader)
        assert (status, headers["connection"]) == (408, "close")
    async with connection(settings_for(REDIS_URL=redis_url)) as (reader, writer):
        writer.write(POST + b"Content-Length: 1000\r\n\r\n")
        answering = asyncio.create_task(answer_of(reader))
        while not answering.done():  # progress, but too little of it
            writer.write(b" ")
            await asyncio.sleep(0.05)
        assert (await answering)[0] == 408


async def test_bodies_in_flight_are_bounded(settings_for: Callable[..., Settings], redis_url: str) -> None:
    settings = settings_for(REDIS_URL=redis_url, bodies_in_flight=2**20, max_body=2**20)
    path = "/api/v1/jobs/bulk"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {2**20}\r\n\r\n".encode()
    async with served(create_app(settings)) as port:
        _, first = await asyncio.open_connection("127.0.0.1", port)
        first.write(head + b" " * (2**20 - 100_000))  # all but the end
        await first.drain()

        async def refused() -> httpx.Response | None:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
                answer = await http.post(path, content=b" " * 200_000)
                return answer if answer.status_code == 503 else None

        answer = await eventually(refused)
        assert int(answer.headers["Retry-After"]) > 0
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            small = await http.post("/api/v1/jobs", content=BODY)
            assert small.status_code == 202
            first.close()

            async def room_again() -> bool:
                answer = await http.post(path, content=json.dumps({"jobs": []}).encode() + b" " * 200_000)
                return answer.status_code == 202

            await eventually(room_again)


async def test_a_client_that_leaves_is_no_error(settings_for: Callable[..., Settings], redis_url: str) -> None:
    with logged("embarq.api") as lines:
        async with connection(settings_for(REDIS_URL=redis_url)) as (_, writer):
            writer.write(POST + b"Content-Length: 1000\r\n\r\n{")
            await writer.drain()
            writer.close()

            async def over() -> bool:
                return any(line["event"] == "request" for line in lines)

            await eventually(over)
    assert [line["event"] for line in lines] == ["request"]


# The loop


async def test_a_blocked_loop_is_logged_with_its_request(
    settings_for: Callable[..., Settings], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def block(_request: Request) -> Response:
        time.sleep(0.4)  # noqa: ASYNC251  # this is what is looked for
        return JSONResponse({})

    app = create_app(settings_for(REDIS_URL=redis_url, loop_blocked=0.1))
    app.router.routes.append(Route("/block", block))
    with logged("embarq.loop") as lines:
        async with served(app) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            assert (await http.get("/block")).status_code == 200
    (line,) = [line for line in lines if line.get("path") == "/block"]
    assert (line["event"], line["method"]) == ("the event loop is blocked", "GET")
    assert "time.sleep(0.4)" in line["stack"]
    assert 0.1 <= line["seconds"] < 0.4


async def test_a_watch_counts_blockages_once_each() -> None:
    watch: LoopWatch
    async with watching(0.05, lambda _task: {}) as watch:
        for _ in range(2):
            time.sleep(0.2)  # noqa: ASYNC251
            await asyncio.sleep(0.1)
    assert watch.blockages == 2
    assert watch.longest >= 0.1
