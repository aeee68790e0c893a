"""Postgres that is frozen, and a clock that steps."""

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.chaos import sessions
from tests.chaos.clock import step_clock
from tests.chaos.stage import Stage
from tests.chaos.test_network import live
from tests.support import eventually
from worker import Client
from worker.database import make_engine
from worker.database.migrate import migrate
from worker.dev import private_postgres, private_redis

SCALE = int(os.environ.get("CHAOS_SCALE", "1"))
FREEZE = 30.0
SLACK = 3.0  # seconds that a job without a database may take while Postgres is frozen
STEP = 60.0
OVERLAP_OF_STEP = 1.0


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[str]:
    with private_redis(tmp_path / "redis") as url:
        yield url


@pytest.fixture
def postgres() -> Iterator[tuple[Path, str]]:
    """A Postgres of the test's own, its folder and its URL."""
    with tempfile.TemporaryDirectory(prefix="embarq-") as name, private_postgres(Path(name) / "pg") as url:
        migrate(url)
        yield Path(name) / "pg", url


@contextmanager
def frozen(folder: Path) -> Iterator[None]:
    """All processes of the server stand still: connections stay open, and nobody answers."""
    parent = psutil.Process(int((folder / "postmaster.pid").read_text().split()[0]))
    processes = [parent, *parent.children(recursive=True)]
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


@pytest.mark.skipif(SCALE == 1, reason="takes more than a minute: `make chaos` runs it")
@pytest.mark.timeout(400)
async def test_frozen_postgres(
    tmp_path: Path, own_redis: str, postgres: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Jobs with a session and the history wait; all others go on; nothing fails."""
    folder, url = postgres
    more = {
        "DATABASE_URL": url,
        "EMBARQ_JOBS": "tests.chaos.jobs,tests.chaos.sessions",
        "EMBARQ_DATA_DIR": str(tmp_path),
    }
    stage = Stage(tmp_path, own_redis, more)
    engine = make_engine(url)
    async with engine.begin() as connection:
        await connection.execute(text(sessions.TABLE))
    try:
        async with Client.open(own_redis) as client:
            for _ in range(2):
                stage.start_worker()
            await eventually(lambda: live(client, 2), 40)
            async with asyncio.TaskGroup() as group:
                kinds = {"quick": 88, "steady": 10, "marked": 2}  # fewer than there are slots
                group.create_task(stage.produce(client, 2000, FREEZE + 10, kinds))
                await asyncio.sleep(3)
                with frozen(folder):
                    await asyncio.sleep(FREEZE)
                    late = await held_up(stage, client)
            ended = await stage.all_ended(client, 120)
            written = await eventually(lambda: all_written(engine, stage), 60)
    finally:
        await asyncio.to_thread(stage.close)
        await engine.dispose()
    account = stage.account(ended)
    with capsys.disabled():
        print(account.line("frozen Postgres", stage, [f"{written} rows of history", f"{len(late)} others held up"]))
    assert account.wrong == {}
    assert late == []


async def held_up(stage: Stage, client: Client) -> list[str]:
    """Jobs that need no database, and have not ended although they were queued a while ago."""
    found = [await client.find(job_id) for job_id, kind in list(stage.acknowledged.items()) if kind != "marked"]
    before = time.time() - SLACK
    return [job.id for job in found if not job.state.ended and job.enqueued_at.timestamp() < before]


async def all_written(engine: AsyncEngine, stage: Stage) -> int:
    """How many rows the history has, once each job has one, and each job with a session its mark."""
    async with engine.connect() as connection:
        rows = set((await connection.execute(text("SELECT id FROM embarq_jobs"))).scalars())
        marks = set((await connection.execute(text("SELECT id FROM chaos_marks"))).scalars())
    wanted = {job_id for job_id, kind in stage.acknowledged.items() if kind == "marked"}
    return len(rows) if rows >= stage.acknowledged.keys() and marks >= wanted else 0


@pytest.mark.timeout(120 + 30 * SCALE)
async def test_clock_of_redis_steps(tmp_path: Path, own_redis: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A minute forward in the midst of work: leases are over at once, and yet runs hardly overlap."""
    stage = Stage(tmp_path, own_redis, {"EMBARQ_LEASE": "15"})
    async with Client.open(own_redis) as client:
        for _ in range(2):
            stage.start_worker()
        await eventually(lambda: live(client, 2), 30)
        async with asyncio.TaskGroup() as group:
            group.create_task(
                stage.produce(client, 400 * SCALE, 12.0 * SCALE, {"quick": 80, "sleeper": 10, "marathon": 10})
            )
            for _ in range(2 * SCALE):
                await asyncio.sleep(stage.chance.uniform(3, 6))
                await step_clock(client.redis, STEP)
                stage.counts["steps"] += 1
        ended = await stage.all_ended(client, 60)
    await asyncio.to_thread(stage.close)
    account = stage.account(ended, OVERLAP_OF_STEP)
    with capsys.disabled():
        print(account.line("clock of Redis", stage))
    assert account.wrong == {}
