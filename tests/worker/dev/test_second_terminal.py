"""`embarq worker` in a second terminal finds both private servers, and starts what its jobs need."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from tests.support import ROOT, free_port, start_embarq
from tests.worker.dev.processes import PATIENCE, user, wait_until
from tests.worker.dev.test_servers import folder, gone
from worker import Context, Registry, injected
from worker.broker.queue_selection import Service
from worker.cli.servers import jobs_with_database
from worker.database import Database

__all__ = ["folder"]

JOBS = "tests.worker.dev.jobs_with_session"
NO_SERVERS = {"REDIS_URL": "", "DATABASE_URL": ""}


def settings(folder: Path, jobs: str = JOBS, **more: str) -> dict[str, str]:
    return {**NO_SERVERS, "EMBARQ_DATA_DIR": str(folder), "EMBARQ_JOBS": jobs, **more}


@contextmanager
def running(folder: Path, *command: str, jobs: str = JOBS, **more: str) -> Iterator["subprocess.Popen[bytes]"]:
    log = folder / f"{command[0]}.log"
    process = start_embarq(*command, log=log, **settings(folder, jobs, **more))
    try:
        yield process
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) in (0, 130), log.read_text()
    finally:
        process.kill()


def enqueue(folder: Path, *command: str) -> dict[str, object]:
    """What `embarq enqueue` says of a job that it waits for."""
    log = folder / "enqueue.log"
    log.unlink(missing_ok=True)
    process = start_embarq("enqueue", *command, "--json", "--wait", "30", log=log, **settings(folder))
    process.wait(PATIENCE)
    found: dict[str, object] = json.loads(log.read_text().splitlines()[-1])
    return found


@pytest.mark.timeout(180)
def test_worker_starts_the_servers_that_its_jobs_need(folder: Path) -> None:
    with running(folder, "worker", "-Q", "*"):
        assert enqueue(folder, "ask_database")["result"] == 1
        assert enqueue(folder, "add", "one=1", "other=2")["result"] == 3
    gone(folder)


@pytest.mark.timeout(180)
def test_several_processes_share_the_servers_of_their_supervisor(folder: Path) -> None:
    with running(folder, "worker", "-Q", "*", "--processes", "2"):
        assert enqueue(folder, "ask_database")["result"] == 1
    gone(folder)


@pytest.mark.timeout(180)
def test_api_and_worker_in_two_terminals_need_no_dev(folder: Path) -> None:
    port = free_port()
    with (
        running(folder, "api", PORT=str(port), EMBARQ_MAIL_PORT=str(free_port())),
        running(folder, "worker", "-Q", "*"),
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        wait_until(lambda: _is_ready(http), "the API is not ready")
        posted = http.post("/api/v1/jobs", json={"job": "ask_database"})
        assert http.get(posted.headers["Location"], params={"wait": 30}, timeout=40).json()["result"] == 1
    gone(folder)


def _is_ready(http: httpx.Client) -> bool:
    try:
        return bool(http.get("/health/ready").json()["database"] == "ok")
    except httpx.TransportError:
        return False


@pytest.mark.timeout(180)
def test_worker_of_other_jobs_needs_no_postgres(folder: Path) -> None:
    with running(folder, "worker", jobs="tests.flow.jobs_of_tests"):
        wait_until(lambda: b"worker starts" in (folder / "worker.log").read_bytes(), "the worker does not start")
        assert not (folder / "postgres").exists()


@pytest.mark.timeout(240)
def test_second_worker_beside_dev_runs_jobs_with_a_session_and_outlives_it(folder: Path) -> None:
    ports = {"PORT": str(free_port()), "EMBARQ_MAIL_PORT": str(free_port())}
    with running(folder, "dev", **ports) as dev:
        wait_until(lambda: b"worker starts" in (folder / "dev.log").read_bytes(), "dev does not start")
        with running(folder, "worker", "-Q", "*"):
            assert enqueue(folder, "ask_database")["result"] == 1
            dev.send_signal(signal.SIGINT)
            dev.wait(PATIENCE)
            wait_until(lambda: b"worker starts" in (folder / "worker.log").read_bytes(), "the worker does not start")
            assert enqueue(folder, "ask_database")["result"] == 1
    gone(folder)


def test_production_worker_names_the_job_that_asks_for_a_database(folder: Path) -> None:
    production = {"EMBARQ_ENV": "production", "PYTHONPATH": str(ROOT), "EMBARQ_JOBS": JOBS}
    with user(folder / "own", "redis") as redis:

        def burst(queues: str) -> tuple[int, str]:
            """A worker outside of our own project, which refuses more."""
            ended = subprocess.run(
                [sys.executable, "-m", "worker.cli", "worker", "--burst", "-Q", queues],
                cwd=folder,
                env={**os.environ, **production, "REDIS_URL": redis.found["redis"]},
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            return ended.returncode, ended.stderr

        line = "embarq: DATABASE_URL must be set, as the job 'ask_database' of these queues needs a database\n"
        assert burst("with-session,other") == (1, line)
        assert burst("*") == (1, line)
        assert burst("default")[0] == 0
        redis.leave()


class Mailer:
    pass


def test_jobs_that_ask_for_a_database_are_found_by_what_they_are_given() -> None:
    jobs = Registry()

    @jobs.resource
    async def session(ctx: Context) -> AsyncIterator[AsyncSession]:
        yield AsyncSession()

    @jobs.resource
    async def database() -> AsyncIterator[Database]:
        yield Database(None)

    @jobs.resource
    async def mailer() -> AsyncIterator[Mailer]:
        yield Mailer()

    @jobs.job(queue="one")
    async def with_session(session: AsyncSession = injected) -> None: ...

    @jobs.job(queue="other")
    async def with_database(database: Database = injected) -> None: ...

    @jobs.job(queue="one")
    async def with_mailer(to: str, mailer: Mailer = injected) -> None: ...

    assert jobs_with_database(jobs, None) == ["with_database", "with_session"]
    assert jobs_with_database(jobs, Service.read(["*"])) == ["with_database", "with_session"]
    assert jobs_with_database(jobs, Service.read(["one:2", "default:1"])) == ["with_session"]
    assert jobs_with_database(jobs, Service.read(["default"])) == []
