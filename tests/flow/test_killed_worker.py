"""Workers as processes: one is killed, one is paused; the job goes on elsewhere and late results are refused."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Kit, eventually, start_embarq
from worker import State
from worker.core import keys

LEASE = 2.0


@pytest.fixture
def workers(kit: Kit, redis_url: str, tmp_path: Path) -> Iterator[list["subprocess.Popen[bytes]"]]:
    environment = {
        "REDIS_URL": redis_url,
        "EMBARQ_JOBS": "tests.flow.jobs_of_tests",
        "EMBARQ_LEASE": str(LEASE),
        "EMBARQ_QUEUES": kit.queue,
        "EMBARQ_GRACE": "1",
    }
    started = [start_embarq("worker", log=tmp_path / f"worker{n}.log", **environment) for n in range(2)]
    yield started
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(15)


async def notes(kit: Kit, where: str) -> list[list[str]]:
    lines: list[bytes] = await kit.client.redis.execute_command("LRANGE", where, 0, -1)
    return [line.decode().split() for line in lines]


async def first_start(kit: Kit, where: str) -> int:
    async def found() -> int | None:
        lines = await notes(kit, where)
        return int(lines[0][1]) if lines else None

    return await eventually(found, 30)


async def enqueue_hold(kit: Kit, where: str, seconds: float) -> str:
    options = {"_queue_name": kit.queue_key}
    job = await kit.client.arq.enqueue_job("hold", where, seconds, **options)  # type: ignore[arg-type]  # arq's own way
    assert job is not None
    return job.job_id


@pytest.mark.arq_defect(2)
async def test_killed_workers_job_starts_again_within_the_lease(
    kit: Kit, workers: list["subprocess.Popen[bytes]"]
) -> None:
    where = f"notes:{kit.queue}"
    job_id = await enqueue_hold(kit, where, 1.0)
    pid = await first_start(kit, where)
    os.kill(pid, signal.SIGKILL)
    killed_at = time.time()
    job = await kit.ended(job_id, 30)
    lines = await notes(kit, where)
    assert [line[0] for line in lines] == ["start", "start", "end"]
    assert int(lines[1][1]) != pid
    assert float(lines[1][3]) - killed_at < LEASE + 2
    assert (job.state, job.result, job.tries) == (State.SUCCEEDED, 2, 2)


async def test_paused_workers_late_result_is_refused(
    kit: Kit, workers: list["subprocess.Popen[bytes]"], tmp_path: Path
) -> None:
    where = f"notes:{kit.queue}"
    job_id = await enqueue_hold(kit, where, 0.5)
    pid = await first_start(kit, where)
    os.kill(pid, signal.SIGSTOP)
    job = await kit.ended(job_id, 30)
    os.kill(pid, signal.SIGCONT)
    late = next(n for n, process in enumerate(workers) if process.pid == pid)

    async def refused() -> bool:
        return (
            b"late result refused" in (tmp_path / f"worker{late}.log").read_bytes()
            or b"lease lost" in (tmp_path / f"worker{late}.log").read_bytes()
        )

    await eventually(refused)
    after = await kit.client.find(job_id)
    assert after == job
    assert after.result == 2
    assert not await kit.client.redis.exists(keys.LEASE + job_id)


async def test_job_handed_to_an_idle_worker_that_is_paused_starts_once_elsewhere(
    kit: Kit, workers: list["subprocess.Popen[bytes]"]
) -> None:
    await eventually(lambda: both_live(kit), 30)
    await asyncio.sleep(0.2)  # both are idle, each with a claim in Redis
    workers[0].send_signal(signal.SIGSTOP)
    where = f"notes:{kit.queue}"
    began = time.time()
    jobs = [await kit.ended(job_id, 30) for job_id in [await enqueue_hold(kit, where, 0.1) for _ in range(3)]]
    assert {job.state for job in jobs} == {State.SUCCEEDED}
    assert [job.tries for job in jobs] == [1, 1, 1], "what its worker never heard of is no try"
    assert time.time() - began < LEASE + 2
    workers[0].send_signal(signal.SIGCONT)
    await asyncio.sleep(1)  # it reads what it was handed, and must not start it
    lines = await notes(kit, where)
    assert [line[0] for line in lines].count("start") == 3
    assert {int(line[1]) for line in lines} == {workers[1].pid}


async def both_live(kit: Kit) -> bool:
    return sum(kit.queue in worker.queues for worker in await kit.client.workers()) == 2
