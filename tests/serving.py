"""Applications under test: without a socket, or as processes that become ready."""

import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
from starlette.applications import Starlette


@asynccontextmanager
async def without_a_socket(
    app: Starlette, *, raises: bool = False, peer: str = "127.0.0.1"
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application, whose lifespan runs meanwhile. `raises`: an exception of the application comes out of
    the request, in place of its answer; `peer`: where the client seems to be."""
    async with app.router.lifespan_context(app) as state:

        async def with_state(scope, receive, send):  # type: ignore[no-untyped-def]  # ASGI
            scope["state"] = dict(state or {})
            await app(scope, receive, send)

        transport = httpx.ASGITransport(with_state, raise_app_exceptions=raises, client=(peer, 1234))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            yield http


def wait_until_ready(
    http: httpx.Client, process: "subprocess.Popen[bytes]", log: Path, *, workers: bool, within: float
) -> None:
    """Wait until it answers and, where workers belong to it, one lives; so many seconds."""
    paths = ("/health/ready", "/health/workers") if workers else ("/health/ready",)
    deadline = time.monotonic() + within
    while True:
        with suppress(httpx.TransportError):
            if all(http.get(path).status_code == 200 for path in paths):
                return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
