"""Workers that are stopped or killed in company: whole process groups, by a job, by a deploy of another version."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.chaos.stage import Stage
from tests.chaos.test_network import live
from tests.support import ROOT, eventually
from worker import Client, State
from worker.dev import private_redis

SCALE = int(os.environ.get("CHAOS_SCALE", "1"))
BEFORE = "9879a40"  # the last commit whose workers run side by side with those of this checkout
GRACE = "8"
FULL = pytest.mark.skipif(SCALE == 1, reason="takes a minute: `make chaos` runs it")


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with private_redis(tmp_path / "redis") as url:
        made = Stage(tmp_path, url)
        yield made
        made.close()


def family(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """A process with all below it."""
    parent = psutil.Process(process.pid)
    return [parent, *parent.children(recursive=True)]


@pytest.mark.timeout(180 + 30 * SCALE)
async def test_sigterm_to_all_processes_at_once(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """As Heroku stops a dyno: the supervisor, its workers and their processes hear it in the same moment. What runs has
    the whole grace to end, so that nothing has to run again."""
    kinds = {"quick": 62, "sleeper": 20, "threaded": 10, "processed": 4, "crunching": 4}  # as there are processes
    async with Client.open(stage.redis_url) as client:
        stage.start_worker("--processes", "2", EMBARQ_GRACE=GRACE)
        await eventually(lambda: live(client, 2), 30)
        async with asyncio.TaskGroup() as group:
            group.create_task(stage.produce(client, 160 * SCALE, 8.0 * SCALE, kinds))
            for _ in range(2 * SCALE):
                await asyncio.sleep(2.5)
                await stop_all(stage, client)
        ended = await stage.all_ended(client, 90)
    account = stage.account(ended)
    with capsys.disabled():
        print(account.line("SIGTERM to all", stage))
    assert account.wrong == {}
    assert account.rerun() == {}


async def stop_all(stage: Stage, client: Client) -> None:
    """Start another in its place, then stop all processes of the first at once."""
    first = stage.workers[0]
    stage.start_worker("--processes", "2", EMBARQ_GRACE=GRACE)
    await eventually(lambda: live(client, 4), 30)
    stage.workers.remove(first)
    stage.gone.append(first)
    told = family(first)
    stage.chance.shuffle(told)
    stage.told_to_stop |= {process.pid for process in told}
    for process in told:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)
    stage.counts["processes told to stop"] += len(told)


@FULL
@pytest.mark.timeout(900)
async def test_one_job_in_2000_kills_its_worker(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """It is poison, and those that happen to run beside it are not."""
    jobs = 2000 * SCALE
    for _ in range(2):
        stage.start_worker("--processes", "2", EMBARQ_LEASES_LOST_LIMIT="3")
    killers: list[str] = []
    async with Client.open(stage.redis_url) as client:
        await eventually(lambda: live(client, 4), 30)
        async with asyncio.TaskGroup() as group:
            group.create_task(stage.produce(client, jobs, jobs / 100, {"quick": 70, "sleeper": 20, "steady": 10}))
            for _ in range(jobs // 2000):
                await asyncio.sleep(10)
                killers.append(await stage.call(client, "killer"))
        for killer in killers:
            del stage.acknowledged[killer]
        ended = await stage.all_ended(client, 600)
        verdicts = [await client.wait_for(killer, 600) for killer in killers]
    account = stage.account(ended)
    with capsys.disabled():
        print(account.line("killers", stage, [f"{len(killers)} killers"]))
    assert account.wrong == {}
    assert {(job.state, job.error and job.error.type) for job in verdicts} == {(State.FAILED, "PoisonedJob")}


@pytest.fixture
def before(tmp_path: Path) -> Iterator[Path]:
    """A checkout of the version before."""
    known = subprocess.run(["git", "cat-file", "-e", BEFORE], cwd=ROOT, capture_output=True, check=False)
    if known.returncode:
        pytest.skip(f"this checkout has no commit {BEFORE}: {known.stderr.decode().strip()}")
    folder = tmp_path / "before"
    subprocess.run(
        ["git", "worktree", "add", "--detach", str(folder), BEFORE], cwd=ROOT, check=True, capture_output=True
    )
    yield folder
    subprocess.run(["git", "worktree", "remove", "--force", str(folder)], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.timeout(180 + 30 * SCALE)
async def test_two_versions(stage: Stage, before: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A rolling deploy, forth and back: workers of this version and the one before on the same queue."""
    kinds = {"quick": 70, "sleeper": 10, "retrying": 10, "failing": 4, "threaded": 4, "processed": 2}
    roots = (ROOT, before)
    async with Client.open(stage.redis_url) as client:
        for root in (before, before, ROOT):
            stage.start_worker(root=root)
        await eventually(lambda: live(client, 3), 40)
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(stage.produce(client, 400 * SCALE, 8.0 * SCALE, kinds))
            for number in range(4 * SCALE):
                await asyncio.sleep(max(0.0, began + 2 * (number + 1) - time.monotonic()))
                stage.start_worker(root=roots[number % 2])
                stage.stop(stage.workers[0], signal.SIGTERM if number % 3 else signal.SIGKILL)
                stage.counts["workers replaced"] += 1
        ended = await stage.all_ended(client, 90)
    account = stage.account(ended)
    with capsys.disabled():
        print(account.line("two versions", stage))
    assert account.wrong == {}
