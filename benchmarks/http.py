"""`POST /api/v1/jobs` beside a bare Starlette endpoint that parses and returns the same JSON; one process each."""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from benchmarks.systems import REDIS_PORT
from worker.dev import private_redis

CONNECTIONS = 50
REQUESTS = 15_000
ROUNDS = 3
BODY = msgspec.json.encode({"job": "stamp", "args": {"due": 1.5}, "options": {"tags": ["bench"]}})
PORTS = {"embarq": 18_211, "bare": 18_212}


async def echo(request: Request) -> Response:
    body = await request.json()
    return JSONResponse(body, 202)


bare = Starlette(routes=[Route("/api/v1/jobs", echo, methods=["POST"])])


@contextmanager
def server(name: str, url: str, folder: Path) -> Iterator[None]:
    environment = {**os.environ, "REDIS_URL": url, "EMBARQ_JOBS": "benchmarks.peers.embarq"}
    port = str(PORTS[name])
    ours = ["-m", "worker.cli", "api", "--port", port]
    plain = ["-m", "uvicorn", "benchmarks.http:bare", "--port", port, "--no-access-log", "--log-level", "warning"]
    with (folder / f"{name}.log").open("ab") as log:
        command = [sys.executable, *(ours if name == "embarq" else plain)]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


async def connection(port: int, count: int) -> None:
    """Send requests one after the other over one connection; every answer must be a 202."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    headers = f"Host: bench\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
    request = b"POST /api/v1/jobs HTTP/1.1\r\n" + headers.encode() + BODY
    for _ in range(count):
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        if b" 202 " not in answer[:20]:
            raise RuntimeError(answer.decode())
        length = int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
    writer.close()


async def load(port: int) -> float:
    """Requests a second."""
    while True:
        try:
            await connection(port, 5)
            break
        except OSError:
            await asyncio.sleep(0.1)
    started = time.perf_counter()
    await asyncio.gather(*(connection(port, REQUESTS // CONNECTIONS) for _ in range(CONNECTIONS)))
    return REQUESTS / (time.perf_counter() - started)


def rates() -> dict[str, float]:
    """Medians over interleaved rounds."""
    found: dict[str, list[float]] = {name: [] for name in PORTS}
    for _ in range(ROUNDS):
        for name, port in PORTS.items():
            with (
                tempfile.TemporaryDirectory(prefix="embarq-") as folder,
                private_redis(Path(folder) / "redis", port=REDIS_PORT) as url,
                server(name, url, Path(folder)),
            ):
                found[name].append(uvloop.run(load(port)))
    return {name: statistics.median(values) for name, values in found.items()}


def report() -> str:
    """Both rates and their ratio."""
    found = rates()
    return (
        f"`POST /api/v1/jobs`: {found['embarq']:,.0f} requests a second, a bare Starlette endpoint: "
        f"{found['bare']:,.0f}; {found['embarq'] / found['bare']:.2f} of it."
    )
