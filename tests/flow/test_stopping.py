"""A worker's process ends in time, whatever holds it, and its jobs go back. Grace periods are short here."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from sqlalchemy import make_url

from tests.support import CuttingProxy, Kit, eventually, start_embarq
from worker import State
from worker.core import keys

GRACE = 0.5
GONE = GRACE + 3.0
NOISE = 1.0  # of a machine that is busy

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(kit: Kit, redis_url: str, tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def make(*arguments: str, **environment: str) -> "subprocess.Popen[bytes]":
        settings = {
            "REDIS_URL": redis_url,
            "EMBARQ_DATA_DIR": str(tmp_path),
            "EMBARQ_JOBS": "tests.flow.jobs_of_tests",
            "EMBARQ_QUEUES": kit.queue,
            "EMBARQ_GRACE": str(GRACE),
            "EMBARQ_LEASE": "60",  # a job that is not handed back does not come back by itself
        }
        process = start_embarq("worker", *arguments, log=tmp_path / "log", **settings | environment)
        started.append(process)
        return process

    yield make
    for process in started:
        for each in family(process):
            each.kill()
        process.wait(30)


def family(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """The process and all below it."""
    try:
        parent = psutil.Process(process.pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def all_end(processes: list[psutil.Process], within: float) -> bool:
    """Whether none of them runs any more; one that nobody has asked for its exit code has ended, too."""
    deadline = time.monotonic() + within
    while any(lives(each) for each in processes):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.01)
    return True


async def begin(kit: Kit, job: str, seconds: float) -> str:
    """Queue a job, and wait until it is inside."""
    where = f"notes:{kit.queue}"
    before = await length(kit, where)
    made = await kit.client.arq.enqueue_job(job, where, seconds, _queue_name=kit.queue_key)
    assert made is not None

    async def begun() -> bool:
        return await length(kit, where) > before

    await eventually(begun, 30)
    return made.job_id


async def length(kit: Kit, where: str) -> int:
    return int(await kit.client.redis.execute_command("LLEN", where))


async def seconds_to_end(process: "subprocess.Popen[bytes]") -> float:
    began = time.monotonic()
    await asyncio.to_thread(process.wait, 40)
    return time.monotonic() - began


async def is_back(kit: Kit, job_id: str) -> bool:
    """Whether the job waits, free to be taken, and its try was given back."""
    job = await kit.client.find(job_id)
    held = await kit.client.redis.exists(keys.LEASE + job_id)
    return (job.state, job.tries, held) == (State.QUEUED, 0, 0)


@pytest.mark.parametrize("job", ["deaf", "read_fifo", "deaf_executor", "block_loop"])
async def test_process_is_gone_in_time_and_its_job_is_handed_back(kit: Kit, start: Start, job: str) -> None:
    worker = start()
    job_id = await begin(kit, job, 60)
    worker.send_signal(signal.SIGTERM)
    assert GRACE < await seconds_to_end(worker) < GONE + NOISE
    assert worker.returncode == 0
    assert await is_back(kit, job_id)


async def test_job_that_does_not_end_overlaps_with_its_next_run_by_milliseconds(
    kit: Kit, start: Start, tmp_path: Path
) -> None:
    folder = tmp_path / "ticks"
    folder.mkdir()
    _ = start(), start()
    made = await kit.client.arq.enqueue_job("tick", str(folder), _queue_name=kit.queue_key)
    assert made is not None

    async def pids() -> list[int]:
        return sorted(int(path.name) for path in folder.iterdir() if path.read_text().count("\n") > 10)

    (first,) = await eventually(pids, 30)
    os.kill(first, signal.SIGTERM)

    async def both() -> list[int]:
        found = await pids()
        return found if len(found) == 2 else []

    await eventually(both, 30)
    second = next(pid for pid in await pids() if pid != first)
    last = float((folder / str(first)).read_text().split("\n")[-2])
    began = float((folder / str(second)).read_text().split("\n")[0])
    assert last - began < 0.05


async def test_second_signal_ends_the_grace_of_a_blocked_loop(kit: Kit, start: Start) -> None:
    worker = start(EMBARQ_GRACE="60")
    job_id = await begin(kit, "block_loop", 60)
    worker.send_signal(signal.SIGTERM)
    worker.send_signal(signal.SIGINT)
    assert await seconds_to_end(worker) < 3.0 + NOISE
    assert await is_back(kit, job_id)


async def test_call_that_keeps_the_interpreters_lock_does_not_keep_the_process(kit: Kit, start: Start) -> None:
    worker = start()
    await begin(kit, "hold_lock_at_stop", 60)
    worker.send_signal(signal.SIGTERM)
    assert await seconds_to_end(worker) < GONE + NOISE


@pytest.mark.alone
async def test_supervisor_kills_a_child_that_cannot_even_hear(kit: Kit, start: Start) -> None:
    supervisor = start("--processes", "2")
    await begin(kit, "hold_lock", 60)
    children = family(supervisor)[1:]
    supervisor.send_signal(signal.SIGTERM)
    assert GONE < await seconds_to_end(supervisor) < GONE + 1.0 + NOISE
    assert await all_end(children, 0)


async def test_redis_that_does_not_answer_does_not_keep_the_process(kit: Kit, start: Start, redis_url: str) -> None:
    async with CuttingProxy(urlsplit(redis_url).port or 0).serve() as proxy:
        worker = start(REDIS_URL=f"redis://127.0.0.1:{proxy.port}")
        await begin(kit, "hold", 60)
        proxy.passes.clear()
        worker.send_signal(signal.SIGTERM)
        assert await seconds_to_end(worker) < GONE + NOISE
        proxy.passes.set()


async def test_postgres_that_does_not_answer_does_not_keep_the_process(
    kit: Kit, start: Start, database_url: str
) -> None:
    folder = make_url(database_url).query["host"]
    async with CuttingProxy(f"{folder}/.s.PGSQL.5432").serve() as proxy:
        worker = start(DATABASE_URL=f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres")
        job_id = await begin(kit, "hold", 60)

        async def connected() -> bool:
            return proxy.seen[1] > 0

        await eventually(connected)
        proxy.passes.clear()
        worker.send_signal(signal.SIGTERM)
        assert await seconds_to_end(worker) < GONE + NOISE
        proxy.passes.set()
    assert await is_back(kit, job_id)


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_signal_to_all_processes_gives_every_job_its_grace(kit: Kit, start: Start, processes: str) -> None:
    """As Heroku stops a dyno; twice in a row, as some hosts do."""
    worker = start("--processes", processes, EMBARQ_GRACE="15")
    jobs = [await begin(kit, name, 3.0) for name in ("hold", "crunch", "deaf", "hold")]
    for _ in range(2):
        for each in family(worker):
            each.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.001)
    await seconds_to_end(worker)
    ended = [await kit.client.find(job_id) for job_id in jobs]
    assert [(job.state, job.tries) for job in ended] == [(State.SUCCEEDED, 1)] * 4


async def test_process_job_is_handed_back_when_all_processes_are_told_to_stop(kit: Kit, start: Start) -> None:
    worker = start()
    job_id = await begin(kit, "crunch", 60)
    before = family(worker)
    for each in before:
        each.send_signal(signal.SIGTERM)
    assert await seconds_to_end(worker) < GONE + NOISE
    assert await all_end(before, 1)
    assert await is_back(kit, job_id)


async def test_killed_workers_processes_die_with_it(kit: Kit, start: Start) -> None:
    worker = start()
    await begin(kit, "crunch", 60)
    children = family(worker)[1:]
    worker.kill()
    assert children
    assert await all_end(children, 2)


async def test_killed_supervisors_children_hand_back_and_leave(kit: Kit, start: Start) -> None:
    supervisor = start("--processes", "2", EMBARQ_GRACE="60")
    jobs = [await begin(kit, name, 60) for name in ("hold", "deaf", "block_loop", "crunch")]
    children = family(supervisor)[1:]
    supervisor.kill()
    assert len(children) >= 3
    assert await all_end(children, 3.0 + NOISE)
    assert [await is_back(kit, job_id) for job_id in jobs] == [True] * 4


async def test_child_that_dies_while_others_run_is_replaced_with_its_pipe(kit: Kit, start: Start) -> None:
    supervisor = start("--processes", "2")
    await begin(kit, "hold", 0.0)
    first = {each.pid for each in family(supervisor)[1:]}
    os.kill(min(first), signal.SIGKILL)

    async def replaced() -> bool:
        return len({record.pid for record in await kit.client.workers() if kit.queue in record.queues} - first) == 1

    await eventually(replaced, 30)
    supervisor.send_signal(signal.SIGTERM)
    assert await seconds_to_end(supervisor) < GONE + NOISE
    assert supervisor.returncode == 0


async def test_recycled_child_that_a_thread_holds_is_replaced(kit: Kit, start: Start) -> None:
    start("--processes", "2", EMBARQ_RECYCLE_JOBS="3")
    job_id = await begin(kit, "deaf", 60)
    (note,) = await kit.client.redis.execute_command("LRANGE", f"notes:{kit.queue}", 0, -1)
    held = int(note.split()[1])

    async def gone() -> bool:
        await kit.client.arq.enqueue_job("hold", f"notes:{kit.queue}", 0.05, _queue_name=kit.queue_key)
        return not psutil.pid_exists(held)

    async def replaced() -> bool:
        pids = {record.pid for record in await kit.client.workers() if kit.queue in record.queues}
        return held not in pids and len(pids) == 2

    await eventually(gone, 30)
    await eventually(replaced, 30)
    assert (await kit.client.find(job_id)).tries <= 1
