"""`embarq doctor` in a project of its own: exit code 1, and a line, for what does not work."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from arq import create_pool
from arq.connections import RedisSettings
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.support import ROOT, eventually
from worker import Client, Priority
from worker.core import keys
from worker.dev import private_redis

TASKS = """
from worker import job


@job()
async def hello() -> str:
    return "hello"


@job(queue="mail")
async def send() -> None: ...
"""


@dataclass
class Deployment:
    """A project, and where it runs."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def command(self, *arguments: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "worker.cli", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **self.environment}
        return {"args": command, "cwd": self.folder, "env": environment}

    def run(self, *arguments: str) -> None:
        subprocess.run(**self.command(*arguments), stdout=subprocess.DEVNULL, timeout=60, check=True)

    def doctor(self, *options: str) -> tuple[int, dict[str, list[str]]]:
        """The exit code, and the findings that are `ok`, a `warning` or `wrong`."""
        told = subprocess.run(
            **self.command("doctor", "--json", *options), capture_output=True, timeout=60, check=False
        )
        assert told.stdout, told.stderr.decode()
        found: dict[str, list[str]] = {"ok": [], "warning": [], "wrong": []}
        for check in json.loads(told.stdout):
            kind = "wrong" if not check["ok"] else "warning" if check["warning"] else "ok"
            found[kind].append(f"{check['what']}: {check['finding']}")
        return told.returncode, found

    @contextmanager
    def worker(self, *options: str) -> Iterator[None]:
        process = subprocess.Popen(
            **self.command("worker", *options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(40)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """In production, with a Redis of its own, no database and no worker."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "tasks.py").write_text(TASKS)
    with private_redis(tmp_path / "redis") as url:
        environment = {"EMBARQ_ENV": "production", "EMBARQ_JOBS": "tasks", "EMBARQ_API_KEY": "0123456789abcdef"}
        yield Deployment(folder, {**environment, "REDIS_URL": url})


@pytest.fixture
async def client(deployment: Deployment) -> AsyncIterator[Client]:
    async with Client.open(deployment.environment["REDIS_URL"]) as opened:
        yield opened


def lines(found: list[str], start: str) -> list[str]:
    return [line for line in found if line.startswith(start)]


async def worker_serves(client: Client, queue: str) -> None:
    async def served() -> bool:
        return any(queue in worker.queues for worker in await client.workers())

    await eventually(served, 30)


async def test_no_worker_is_wrong_in_production_but_not_before_a_release(deployment: Deployment) -> None:
    code, found = deployment.doctor()
    assert (code, len(lines(found["wrong"], "workers: no worker lives"))) == (1, 1)
    code, found = deployment.doctor("--release")
    assert (code, found["wrong"], len(lines(found["warning"], "workers:"))) == (0, [], 1)
    deployment.environment["EMBARQ_ENV"] = "development"
    code, found = deployment.doctor()
    assert (code, found["wrong"], len(lines(found["warning"], "workers:"))) == (0, [], 1)


async def test_what_is_not_set_is_wrong(deployment: Deployment) -> None:
    del deployment.environment["EMBARQ_API_KEY"]
    code, found = deployment.doctor("--release")
    assert code == 1
    assert [line.partition(" is not set")[0] for line in found["wrong"]] == ["settings: EMBARQ_API_KEY"]
    del deployment.environment["REDIS_URL"]
    code, found = deployment.doctor("--release")
    assert (code, len(lines(found["wrong"], "settings: REDIS_URL is not set"))) == (1, 1)
    assert not (deployment.folder / ".embarq").exists()  # no private server was started


async def test_misspelt_setting_is_wrong_but_stops_no_release(deployment: Deployment) -> None:
    deployment.environment["EMBARQ_CONCURENCY"] = "5"
    told = ["settings: EMBARQ_CONCURENCY is not a setting; did you mean EMBARQ_CONCURRENCY?"]
    _, found = deployment.doctor()
    assert lines(found["wrong"], "settings") == told
    code, found = deployment.doctor("--release")
    assert (code, lines(found["warning"], "settings")) == (0, told)


async def test_platforms_own_addresses_are_looked_at(deployment: Deployment) -> None:
    platform = Deployment(ROOT, {**deployment.environment, "EMBARQ_JOBS": "jobs"})
    code, found = platform.doctor("--release")
    assert code == 1
    names = {line.removeprefix("settings: ").partition(" ")[0] for line in lines(found["wrong"], "settings: ")}
    assert {"DATABASE_URL", "EMBARQ_SECRET", "EMBARQ_SMTP_URL", "EMBARQ_SMS_URL", "EMBARQ_PAYMENT_URL"} <= names


async def test_redis_that_may_lose_jobs_is_wrong_in_production(deployment: Deployment, client: Client) -> None:
    await client.redis.config_set("maxmemory", "100mb")
    await client.redis.config_set("maxmemory-policy", "allkeys-lru")
    await client.redis.config_set("appendonly", "no")
    code, found = deployment.doctor("--release")
    assert (code, len(lines(found["wrong"], "redis: "))) == (1, 2)
    await client.redis.config_set("maxmemory-policy", "noeviction")
    await client.redis.config_set("save", "60 1")  # snapshots: a restart loses a minute
    code, found = deployment.doctor("--release")
    assert (code, found["wrong"], len(lines(found["warning"], "redis: the append-only file is off"))) == (0, [], 1)
    deployment.environment["EMBARQ_ENV"] = "development"
    await client.redis.config_set("save", "")
    assert deployment.doctor()[0] == 0


async def test_tables_that_are_missing_or_behind_are_wrong(deployment: Deployment, fresh_database: AsyncEngine) -> None:
    url = str(fresh_database.url)
    deployment.environment["DATABASE_URL"] = url
    code, found = deployment.doctor("--release")
    assert (code, found["wrong"]) == (1, ["database: the tables are missing: run `embarq migrate`"])
    deployment.run("migrate")
    assert deployment.doctor("--release")[0] == 0
    deployment.run("migrate", "--back-to", "0001")
    code, found = deployment.doctor("--release")
    assert (code, len(lines(found["wrong"], "database: the tables are behind"))) == (1, 1)


def test_revision_with_a_name_of_the_engines_is_told_by_its_file(
    deployment: Deployment, fresh_database: AsyncEngine
) -> None:
    deployment.environment["DATABASE_URL"] = str(fresh_database.url)
    (deployment.folder / "pyproject.toml").write_text('[tool.embarq]\nmigrations = ["own"]\n')
    file = deployment.folder / "own" / "users.py"
    file.parent.mkdir()
    file.write_text('revision = "0001"\ndown_revision = None\n')
    code, found = deployment.doctor("--release")
    assert (code, len(lines(found["wrong"], f"database: {file}: the revision must not be named '0001'"))) == (1, 1)


async def test_tables_of_a_newer_release_are_no_reason_to_stop(deployment: Deployment, migrated: AsyncEngine) -> None:
    deployment.environment["DATABASE_URL"] = str(migrated.url)  # with the platform's tables, which this project lacks
    code, found = deployment.doctor("--release")
    assert (code, len(lines(found["warning"], "database: a newer release has migrated"))) == (0, 1)


async def test_queues_that_nobody_serves(deployment: Deployment, client: Client) -> None:
    with deployment.worker("-Q", "default"):
        await worker_serves(client, "default")
        code, found = deployment.doctor()
        assert (code, len(found["wrong"])) == (1, 1)
        assert "serves mail" in found["wrong"][0]
        deployment.environment["EMBARQ_ENV"] = "development"
        assert deployment.doctor()[0] == 0
        deployment.run("enqueue", "send")
        code, found = deployment.doctor()
        assert (code, found["wrong"]) == (1, ["queues: jobs wait in mail, which no live worker serves"])
        code, found = deployment.doctor("--release")
        assert (code, found["wrong"], len(lines(found["warning"], "queues: jobs wait in mail"))) == (0, [], 1)


async def test_all_is_well_where_all_queues_are_served(deployment: Deployment, client: Client) -> None:
    with deployment.worker("-Q", "*"):
        await worker_serves(client, "mail")
        code, found = deployment.doctor()
        assert (code, found["wrong"], lines(found["warning"], "queues")) == (0, [], [])
        assert len(lines(found["ok"], "workers: 1 live, for 100 jobs at once")) == 1


async def test_waiting_jobs_that_no_worker_knows(deployment: Deployment, client: Client) -> None:
    pool = await create_pool(RedisSettings.from_dsn(deployment.environment["REDIS_URL"]), job_serializer=_as_json)
    with deployment.worker("-Q", "*"):
        await worker_serves(client, "mail")
        for _ in range(3):
            assert await pool.enqueue_job("of_another_release")
        await pool.aclose()
        code, found = deployment.doctor()
        assert (code, len(found["wrong"])) == (1, 1)
        assert "3 of the 3 jobs that are next" in found["wrong"][0]
        assert "'of_another_release' in default" in found["wrong"][0]


def _as_json(record: dict[str, Any]) -> bytes:
    return json.dumps(record).encode()


async def test_level_of_a_queue_that_holds_another_type_stops_no_check(deployment: Deployment, client: Client) -> None:
    deployment.run("enqueue", "send")
    await client.redis.set(keys.queue_key("mail", Priority.HIGH), "of another type")
    code, found = deployment.doctor("--release")
    assert (code, found["wrong"]) == (0, [])
    assert lines(found["warning"], "workers:")


async def test_redis_that_refuses_to_be_asked_is_doubtful_and_the_rest_is_told(
    deployment: Deployment, client: Client
) -> None:
    url = deployment.environment["REDIS_URL"]
    await client.redis.execute_command(
        "ACL", "SETUSER", "shy", "on", ">hunter22", "~*", "&*", "+@all", "-info", "-xlen"
    )
    deployment.environment["REDIS_URL"] = url.replace("unix://", "unix://shy:hunter22@")
    with deployment.worker("-Q", "*"):
        await worker_serves(client, "mail")
        code, found = deployment.doctor()
    assert (code, found["wrong"]) == (0, [])
    (refused,) = lines(found["warning"], "redis: it refuses INFO")
    assert "+info" in refused
    assert lines(found["ok"], "redis: version") == []
    assert len(lines(found["warning"], "redis: history keeps up: cannot be checked: ")) == 1
    assert len(lines(found["ok"], "workers: 1 live")) == 1


def test_people_are_told_what_scripts_are(deployment: Deployment) -> None:
    code, found = deployment.doctor("--release")
    printed = subprocess.run(
        **deployment.command("doctor", "--release"), capture_output=True, text=True, timeout=60, check=False
    )
    assert (printed.returncode, printed.stderr) == (code, "")
    for line in (line for kind in found.values() for line in kind):
        assert line.partition(":")[0] in printed.stdout
