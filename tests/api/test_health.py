from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from settings import Settings
from tests.api.conftest import serving
from tests.support import Kit, eventually
from worker import Client
from worker.dev import private_redis


async def test_live_and_ready(http: httpx.AsyncClient) -> None:
    assert (await http.get("/health/live")).json() == {"status": "ok"}
    ready = await http.get("/health/ready")
    assert (ready.status_code, ready.json()) == (
        200,
        {"status": "ok", "redis": "ok", "database": "ok", "warnings": []},
    )


async def test_workers_are_named_while_they_live(http: httpx.AsyncClient, jobs: Kit) -> None:
    async with jobs.worker() as worker:

        async def listed() -> list[str] | None:
            answer = await http.get("/health/workers")
            names = [w["id"] for w in answer.json()["workers"]]
            return names if worker.id in names and answer.status_code == 200 else None

        await eventually(listed)


async def test_without_redis_503_and_recovery_by_itself(settings_for: Callable[..., Settings], tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    with private_redis(folder) as url:
        pass
    settings = settings_for(REDIS_URL=url)
    async with serving(settings) as http:
        away = await http.post("/api/v1/jobs", json={"job": "echo", "args": {"value": 1}})
        assert away.status_code == 503
        assert int(away.headers["Retry-After"]) > 0
        assert away.headers["Content-Type"] == "application/problem+json"
        for path in ("/health/ready", "/health/workers", "/api/v1/jobs/x", "/api/v1/jobs/x?wait=1"):
            assert (await http.get(path)).status_code == 503, path
        assert (await http.get("/health/live")).status_code == 200
        with private_redis(folder):
            assert (await http.get("/health/ready")).status_code == 200
            back = await http.post("/api/v1/jobs", json={"job": "echo", "args": {"value": 1}})
            assert back.status_code == 202


@pytest.mark.parametrize("database", ["postgres://nobody@127.0.0.1:1/none"])
async def test_ready_names_a_database_that_is_away(
    settings_for: Callable[..., Settings], redis_url: str, database: str
) -> None:
    async with serving(settings_for(REDIS_URL=redis_url, DATABASE_URL=database)) as http:
        ready = await http.get("/health/ready")
    assert ready.status_code == 503
    assert ready.json()["redis"] == "ok"
    assert "Postgres is not available" in ready.json()["database"]


async def test_ready_warns_of_a_redis_that_may_lose_jobs(settings_for: Callable[..., Settings], tmp_path: Path) -> None:
    with private_redis(tmp_path / "redis") as url:
        async with Client.open(url) as client:
            await client.redis.config_set("appendonly", "no")
            await client.redis.config_set("maxmemory", "100mb")
            await client.redis.config_set("maxmemory-policy", "allkeys-lru")
        async with serving(settings_for(REDIS_URL=url)) as http:
            ready = await http.get("/health/ready")
    assert ready.status_code == 200
    assert [warning.split(":")[0] for warning in ready.json()["warnings"]] == [
        "maxmemory-policy is allkeys-lru",
        "the append-only file is off",
    ]


async def test_ready_where_redis_refuses_to_be_asked(settings_for: Callable[..., Settings], tmp_path: Path) -> None:
    with private_redis(tmp_path / "redis") as url:
        async with Client.open(url) as client:
            await client.redis.execute_command("ACL", "SETUSER", "shy", "on", ">hunter22", "~*", "&*", "+@all", "-info")
        async with serving(settings_for(REDIS_URL=url.replace("unix://", "unix://shy:hunter22@"))) as http:
            ready = await http.get("/health/ready")
    assert (ready.status_code, ready.json()["redis"]) == (200, "ok")
    (warning,) = ready.json()["warnings"]
    assert warning.startswith("it refuses INFO")
