"""What large requests cost others: nobody waits for them, and they take no more memory than they may."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.support import eventually, free_port, start_embarq
from worker import Client
from worker.core import keys

pytestmark = pytest.mark.alone
MEGABYTE = 1024 * 1024
SLOWEST = 0.5  # seconds; it is a tenth of that where nothing else runs


@dataclass
class Served:
    """An API in a process of its own; `slowest` is the slowest answer that others got meanwhile, in seconds."""

    base_url: str
    pid: int
    log: Path
    slowest: float = 0.0
    most_memory: int = 0
    asked: int = 0
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    def memory(self) -> int:
        bytes_: int = psutil.Process(self.pid).memory_info().rss
        return bytes_

    async def _watch(self, ready: asyncio.Event) -> None:
        async with httpx.AsyncClient(base_url=self.base_url, timeout=60) as http:
            await http.get("/health/live")
            ready.set()
            while not self._stop.is_set():
                started = time.perf_counter()
                assert (await http.get("/health/live")).status_code == 200
                self.slowest = max(self.slowest, time.perf_counter() - started)
                self.most_memory = max(self.most_memory, self.memory())
                self.asked += 1
                await asyncio.sleep(0.005)

    async def get(self, path: str) -> httpx.Response:
        """The answer, while another client asks for signs of life."""
        return await self._ask(httpx.get, path, {})

    async def post(self, path: str, body: bytes) -> httpx.Response:
        """The answer, while another client asks for signs of life."""
        return await self._ask(httpx.post, path, {"content": body})

    async def _ask(self, ask: Callable[..., httpx.Response], path: str, more: dict[str, Any]) -> httpx.Response:
        self._stop.clear()
        self.slowest, self.most_memory, self.asked = 0.0, 0, 0
        ready = asyncio.Event()
        watching = asyncio.create_task(self._watch(ready))
        await ready.wait()
        try:  # in a thread, so that what sending costs here is not taken for what serving costs there
            return await asyncio.to_thread(ask, self.base_url + path, timeout=60, **more)
        finally:
            self._stop.set()
            await watching

    def blocked(self) -> list[str]:
        """What the API's own watch says of its loop, but for its start."""
        lines = self.log.read_text().splitlines()
        return [line for line in lines if "the event loop is blocked" in line and "path=" in line]


@pytest.fixture(scope="module")
def address(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int, Path]]:
    folder, port = tmp_path_factory.mktemp("api"), free_port()
    process = start_embarq(
        "api",
        log=folder / "log",
        REDIS_URL=redis_url,
        PORT=str(port),
        EMBARQ_MAIL_PORT=str(free_port()),
        EMBARQ_DATA_DIR=str(folder),
        EMBARQ_LOOP_BLOCKED="0.25",
    )
    yield f"http://127.0.0.1:{port}", process.pid, folder / "log"
    process.terminate()
    process.wait()


@pytest.fixture
async def api(address: tuple[str, int, Path]) -> Served:
    async with httpx.AsyncClient(base_url=address[0]) as http:

        async def lives() -> bool:
            try:
                return (await http.get("/health/live")).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(lives, 30)
    return Served(*address)


def wrong_jobs(count: int, size: int) -> bytes:
    numbers = ["not a number"] * (size // 16)
    job = {"job": "send_bulk_messages", "args": {"message": "x", "numbers": numbers, "more": 1}}
    return json.dumps({"jobs": [job] * count}).encode()


async def test_a_large_result_is_passed_on_and_harms_nobody(api: Served, client: Client) -> None:
    value = [{"a": 1, "b": "x"}] * 600_000
    record = {"t": 1, "f": "echo", "a": [], "k": {"value": 1}, "et": 1, "s": True, "st": 1, "ft": 2, "r": value}
    await client.redis.set(keys.RESULT + "large", json.dumps(record))
    answer = await api.get("/api/v1/jobs/large")
    assert answer.json()["result"] == value
    assert api.slowest < SLOWEST, (api.slowest, api.asked)
    assert (await api.get("/api/v1/jobs/large/progress")).json()["state"] == "succeeded"
    assert api.slowest < SLOWEST, (api.slowest, api.asked)
    await client.redis.delete(keys.RESULT + "large")


def one_wrong_job() -> bytes:
    args = {"message": "x", "numbers": [0] * 250_000}
    return json.dumps({"jobs": [{"job": "send_bulk_messages", "args": args}] * 10}).encode()


def unknown_fields() -> bytes:
    return json.dumps({"jobs": [{"job": "echo", **{f"f{n}": n for n in range(50_000)}}] * 10}).encode()


@pytest.mark.parametrize(
    "body",
    [
        lambda: wrong_jobs(10_000, 780),
        one_wrong_job,
        unknown_fields,
        lambda: b'{"jobs":[' + b"1," * 4_000_000 + b"1]}",
    ],
    ids=["ten thousand wrong ones", "a wrong megabyte each", "unknown fields", "four million"],
)
async def test_a_bulk_of_wrong_jobs_harms_nobody(api: Served, body: Callable[[], bytes]) -> None:
    before = api.memory()
    answer = await api.post("/api/v1/jobs/bulk", body())
    assert answer.status_code in {202, 422}
    assert len(answer.content) < 8 * MEGABYTE
    assert api.slowest < SLOWEST, (api.slowest, api.asked)
    assert api.blocked() == []
    assert api.most_memory - before < 300 * MEGABYTE
    if answer.status_code == 202:
        record = answer.json()
        assert (record["accepted"], record["refused"]) == (0, len(record["jobs"]))
        assert {each["status"] for each in record["jobs"]} == {422}


async def test_a_bulk_of_good_jobs_harms_nobody(api: Served) -> None:
    jobs = [{"job": "echo", "args": {"value": "x" * 1400}} for _ in range(10_000)]
    answer = await api.post("/api/v1/jobs/bulk", json.dumps({"jobs": jobs}).encode())
    assert answer.json()["accepted"] == 10_000
    assert len(answer.content) < 8 * MEGABYTE
    assert api.slowest < SLOWEST, (api.slowest, api.asked)
    assert api.blocked() == []


def group(count: int, step: dict[str, Any]) -> bytes:
    return json.dumps({"group": [step] * count}).encode()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (lambda: group(400_000, {"job": "echo"}), 422),
        (lambda: group(40_000, {"job": "echo", "args": {}}), 422),
        (lambda: b'{"group":' + b'[{"group":' * 200 + b"[]" + b"}]" * 200 + b"}", 422),
        (
            lambda: b'{"group":' + b'[{"group":' * 90 + b"[" + b'{"job":"x"},' * 1_000_000 + b"1]" + b"}]" * 90 + b"}",
            422,
        ),
        (lambda: group(20_000, {"job": "echo", "args": {"value": 1}}), 202),
    ],
    ids=["too many", "wrong", "deep", "deep and too many", "good"],
)
async def test_large_workflows_harm_nobody(api: Served, body: Callable[[], bytes], status: int) -> None:
    before = api.memory()
    answer = await api.post("/api/v1/workflows", body())
    assert answer.status_code == status
    assert api.slowest < SLOWEST, (api.slowest, api.asked)
    assert api.blocked() == []
    assert api.most_memory - before < 300 * MEGABYTE


async def test_a_single_wrong_megabyte_gets_a_short_answer(api: Served) -> None:
    args = {"message": "x", "numbers": ["x"] * 200_000}
    answer = await api.post("/api/v1/jobs", json.dumps({"job": "send_bulk_messages", "args": args}).encode())
    assert answer.status_code == 422
    assert len(answer.content) < 20_000
    assert api.slowest < SLOWEST, (api.slowest, api.asked)
    assert api.blocked() == []
