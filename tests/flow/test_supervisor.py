"""`embarq worker --processes N`: children that die are replaced, are recycled, and stop with their parent."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.support import Kit, eventually, start_embarq
from worker import State

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(kit: Kit, redis_url: str, tmp_path: Path) -> Iterator[Start]:
    started = []

    def make(*arguments: str, **environment: str) -> "subprocess.Popen[bytes]":
        process = start_embarq(
            "worker",
            *arguments,
            log=tmp_path / "log",
            REDIS_URL=redis_url,
            EMBARQ_JOBS="tests.flow.jobs_of_tests",
            EMBARQ_QUEUES=kit.queue,
            **environment,
        )
        started.append(process)
        return process

    yield make
    for process in started:
        if process.poll() is None:
            process.terminate()
        process.wait(30)


def children(parent: "subprocess.Popen[bytes]") -> set[int]:
    return {child.pid for child in psutil.Process(parent.pid).children()}


async def workers(kit: Kit, count: int) -> set[int]:
    """The process ids of the queue's workers, once there are so many."""

    async def found() -> set[int] | None:
        pids = {record.pid for record in await kit.client.workers() if kit.queue in record.queues}
        return pids if len(pids) == count else None

    return await eventually(found, 30)


async def enqueue_hold(kit: Kit, seconds: float) -> str:
    job = await kit.client.arq.enqueue_job("hold", f"notes:{kit.queue}", seconds, _queue_name=kit.queue_key)
    assert job is not None
    return job.job_id


async def test_children_that_die_are_replaced_and_stop_with_the_parent(kit: Kit, start: Start) -> None:
    parent = start("--processes", "2")
    first = await workers(kit, 2)
    os.kill(min(first), signal.SIGKILL)

    async def replaced() -> bool:
        return len(children(parent) - first) == 1 and len(children(parent)) == 2

    await eventually(replaced, 30)
    again = {pid for pid in children(parent) if "--again" in psutil.Process(pid).cmdline()}
    assert again == children(parent) - first, "what runs at the start of a worker does not run for it"
    job_ids = [await enqueue_hold(kit, 0.3) for _ in range(10)]
    for job_id in job_ids:
        assert (await kit.ended(job_id, 30)).state is State.SUCCEEDED
    last = children(parent)
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(30) == 0
    assert not any(psutil.pid_exists(pid) for pid in last)


async def test_recycled_after_so_many_jobs_without_losing_one(kit: Kit, start: Start, tmp_path: Path) -> None:
    parent = start("--processes", "2", "-c", "2", EMBARQ_RECYCLE_JOBS="5")
    job_ids = [await enqueue_hold(kit, 0.1) for _ in range(60)]
    for job_id in job_ids:
        job = await kit.ended(job_id, 60)
        assert (job.state, job.tries) == (State.SUCCEEDED, 1)
    parent.terminate()
    parent.wait(30)
    assert len(re.findall("worker is recycled", (tmp_path / "log").read_text())) >= 2


async def test_recycled_above_so_much_memory(kit: Kit, start: Start, tmp_path: Path) -> None:
    start("--processes", "2", EMBARQ_RECYCLE_MEGABYTES="16")

    async def recycled() -> bool:
        return "worker is recycled" in (tmp_path / "log").read_text()

    await eventually(recycled, 30)


async def test_fifty_running_jobs_end_well_at_sigterm(kit: Kit, start: Start) -> None:
    worker = start("-c", "50", EMBARQ_GRACE="10")
    job_ids = [await enqueue_hold(kit, 2.0) for _ in range(50)]

    async def all_inside() -> bool:
        return int(await kit.client.redis.execute_command("LLEN", f"notes:{kit.queue}")) == 50

    await eventually(all_inside, 30)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    jobs = [await kit.client.find(job_id) for job_id in job_ids]
    assert {(job.state, job.tries) for job in jobs} == {(State.SUCCEEDED, 1)}


@pytest.mark.arq_defect(8)
async def test_second_signal_hands_back_at_once_and_uses_no_try(kit: Kit, start: Start) -> None:
    for _ in range(2):
        worker = start(EMBARQ_GRACE="60")
        job_id = await enqueue_hold(kit, 300)
        await kit.reaches(job_id, State.RUNNING, 30)
        worker.send_signal(signal.SIGTERM)
        worker.send_signal(signal.SIGINT)
        assert worker.wait(20) == 0
        job = await kit.client.find(job_id)
        assert (job.state, job.tries) == (State.QUEUED, 0)
        await kit.client.cancel(job_id)
