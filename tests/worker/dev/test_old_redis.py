"""A Redis that cannot run our scripts is told by its version, wherever it is met."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.serving import without_a_socket
from tests.support import Kit, eventually, free_port, start_embarq
from tests.worker.dev.old_redis import StandIn, real_redis_6_2, redis_6_2
from worker import Client, Registry
from worker.core.errors import ServerTooOld
from worker.http.app import create_app
from worker.settings import Settings

__all__ = ["redis_6_2"]

TOLD = "embarq: Redis 6.2.14 is too old: Embarq needs Redis 7.0 or newer, or Valkey\n"


@pytest.fixture
async def old_redis() -> AsyncIterator[str]:
    server = StandIn()
    async with server.serve():
        yield server.url


async def ended(process: "subprocess.Popen[bytes]", log: Path) -> tuple[int, str]:
    try:
        code = await asyncio.to_thread(process.wait, 60)
        return code, await asyncio.to_thread(log.read_text)
    finally:
        process.kill()


@pytest.mark.parametrize("command", ["worker", "worker --processes 2", "api", "dev", "enqueue tick folder=x"])
async def test_command_says_it_in_one_line(command: str, old_redis: str, tmp_path: Path) -> None:
    environment = {"REDIS_URL": old_redis, "EMBARQ_DATA_DIR": str(tmp_path / "data"), "PORT": str(free_port())}
    environment["EMBARQ_JOBS"] = "tests.flow.jobs_of_tests"
    process = start_embarq(*command.split(), log=tmp_path / "log", **environment)
    code, told = await ended(process, tmp_path / "log")
    assert (code, told) == (1, TOLD)


async def test_doctor_says_it(old_redis: str, tmp_path: Path) -> None:
    process = start_embarq("doctor", "--json", log=tmp_path / "log", REDIS_URL=old_redis)
    code, told = await ended(process, tmp_path / "log")
    assert code == 1
    assert told.count("Redis 6.2.14 is too old: Embarq needs Redis 7.0 or newer") == 1
    assert "Traceback" not in told


async def test_redis_that_turns_out_to_be_old_once_it_is_there_ends_a_worker(tmp_path: Path) -> None:
    server = StandIn()
    process = start_embarq(
        "worker",
        log=tmp_path / "log",
        REDIS_URL=server.url,
        EMBARQ_JOBS="tests.flow.jobs_of_tests",
    )

    async def started() -> bool:
        return b"worker starts" in (tmp_path / "log").read_bytes()

    await eventually(started, 30)
    await asyncio.sleep(1)
    assert process.poll() is None  # Redis is unavailable, and that is waited out
    async with server.serve():
        code, told = await ended(process, tmp_path / "log")
    assert (code, told.splitlines()[-1] + "\n") == (1, TOLD)


async def test_client_says_it_at_its_first_call(old_redis: str) -> None:
    async with Client.open(old_redis) as client:
        registry = Registry()

        @registry.job()
        async def quick() -> None: ...

        with pytest.raises(ServerTooOld, match=r"6\.2\.14"):
            await Kit(client, registry, "default").enqueue(quick)


async def test_ready_says_it_and_calls_are_answered_503(old_redis: str, tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path, REDIS_URL=old_redis, jobs=("tests.worker.process_jobs",)))
    async with without_a_socket(app) as http:
        ready = await http.get("/health/ready")
        assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")
        assert ready.json()["redis"].startswith("Redis 6.2.14 is too old")
        refused = await http.get("/api/v1/jobs/nothing")
        assert (refused.status_code, refused.json()["detail"][:25]) == (503, "Redis 6.2.14 is too old: ")


async def test_real_redis_6_2_cannot_run_our_scripts(redis_6_2: Path, tmp_path: Path) -> None:
    """Should it ever, the lowest version is another."""
    with real_redis_6_2(redis_6_2, tmp_path) as url:
        async with Client.open(url) as client:
            with pytest.raises(ServerTooOld, match=r"6\.2"):
                await client.find("nothing")
            assert "too old" in str((await client.inspector.server()).problem)
