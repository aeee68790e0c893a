"""A rolling deploy: workers of two releases serve one queue, and a job has a new required argument."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import Kit, eventually, start_embarq
from worker import State

Start = Callable[[str], "subprocess.Popen[bytes]"]
DEADLINE = 60


@pytest.fixture
def start(kit: Kit, redis_url: str, tmp_path: Path) -> Iterator[Start]:
    started = []

    def make(version: str) -> "subprocess.Popen[bytes]":
        process = start_embarq(
            "worker",
            log=tmp_path / version,
            REDIS_URL=redis_url,
            EMBARQ_JOBS=f"tests.flow.versions.{version}",
            EMBARQ_QUEUES=kit.queue,
            EMBARQ_UNKNOWN_JOB_DEADLINE=str(DEADLINE),
        )
        started.append(process)
        return process

    yield make
    for process in started:
        process.kill()
        process.wait(30)


async def post(kit: Kit, count: int) -> list[str]:
    found = []
    for number in range(count):
        arguments = {"name": f"n{number}", "language": "en"}
        job = await kit.client.arq.enqueue_job("greet", _queue_name=kit.queue_key, **arguments)  # type: ignore[arg-type]  # arq's own way
        assert job is not None
        found.append(job.job_id)
    return found


async def live(kit: Kit, count: int) -> bool:
    return sum(kit.queue in worker.queues for worker in await kit.client.workers()) == count


async def test_calls_of_the_newer_release_fail_nowhere_while_it_is_up_and_later_where_it_is_not(
    kit: Kit, start: Start, tmp_path: Path
) -> None:
    start("before")
    newer = [start("after"), start("after")]
    await eventually(lambda: live(kit, 3), 30)
    jobs = [await kit.ended(job_id, 60) for job_id in await post(kit, 200)]
    assert {(job.state, job.tries) for job in jobs} == {(State.SUCCEEDED, 1)}
    assert "requeued for a worker of another version" in (tmp_path / "before").read_text()

    for process in newer:
        process.kill()
        process.wait(30)
    (left,) = await post(kit, 1)  # the heartbeats of the killed live on for some seconds
    assert (await kit.reaches(left, State.DEFERRED)).tries == 0
    job = await kit.ended(left, DEADLINE)
    assert job.error is not None
    assert (job.state, job.error.type) == (State.FAILED, "InvalidArguments")
