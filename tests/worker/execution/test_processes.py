import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pebble
import psutil
import pytest

from tests.support import Kit, eventually, logged
from tests.worker import process_jobs
from worker import Client, Progress, Registry, State
from worker.core.errors import DefinitionError
from worker.execution.processes.pool import Processes

HOW = ("retry", "arq", "key", "permanent", "exit")


@pytest.fixture
def kit(client: Client, queue: str) -> Kit:
    return Kit(client, process_jobs.registry, queue)


async def test_runs_elsewhere_with_context_progress_and_logs(kit: Kit) -> None:
    handle = await kit.enqueue(process_jobs.whereabouts, {"word": "half"})
    with logged("child") as lines:
        await kit.drain()
    result = await handle.result(timeout=15)
    assert result["pid"] != os.getpid()
    assert (result["job_id"], result["try"]) == (handle.id, 1)
    assert (await handle.job()).progress == Progress(1, 2, "half")
    assert [line["event"] for line in lines] == ["hello from the child"]


@pytest.mark.parametrize("by", ["limit", "cancel"])
async def test_limit_or_cancel_kills_the_process(kit: Kit, tmp_path: Path, by: str) -> None:
    pid_file = tmp_path / "pid"
    limit = {"timeout": 2.0} if by == "limit" else {}
    handle = await kit.enqueue(process_jobs.spin, {"pid_file": str(pid_file)}, **limit)
    async with kit.worker():

        async def started() -> int:
            return int(pid_file.read_text() or 0) if pid_file.exists() else 0

        pid = await eventually(started)
        if by == "cancel":
            await handle.cancel()
        job = await kit.ended(handle.id)
        assert not psutil.pid_exists(pid), "settled while its process lived"
    assert job.state is (State.FAILED if by == "limit" else State.CANCELLED)


def text_of(path: Path) -> str:
    return path.read_text() if path.exists() else ""


async def written(path: Path) -> str:
    async def text() -> str:
        return text_of(path)

    return await eventually(text)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_signal_to_all_processes_is_the_workers_business(kit: Kit, tmp_path: Path, signum: int) -> None:
    """Also where it comes before a child can say what to do with it, and to those that have no job."""
    handle = await kit.enqueue(process_jobs.nap, {"pid_file": str(tmp_path / "pid"), "seconds": 1.0})
    async with kit.worker():
        pid = 0
        while not text_of(tmp_path / "pid"):
            for child in psutil.Process().children():
                if "spawn_main" in " ".join(child.cmdline()):
                    child.send_signal(signum)
            await asyncio.sleep(0.05)
        pid = int(await written(tmp_path / "pid"))
        os.kill(pid, signum)
        job = await kit.ended(handle.id)
    assert (job.state, job.result, job.tries) == (State.SUCCEEDED, "rested", 1)


async def test_process_job_is_handed_back_at_the_end_of_the_grace(kit: Kit, tmp_path: Path) -> None:
    handle = await kit.enqueue(process_jobs.nap, {"pid_file": str(tmp_path / "pid"), "seconds": 60.0})
    async with kit.worker(grace=0.1):
        pid = int(await written(tmp_path / "pid"))
    assert not psutil.pid_exists(pid)
    job = await handle.job()
    assert (job.state, job.tries) == (State.QUEUED, 0)


async def test_what_a_process_says_while_the_loop_is_blocked_never_holds_it_up(kit: Kit, tmp_path: Path) -> None:
    handle = await kit.enqueue(process_jobs.talk, {"folder": str(tmp_path), "times": 1000})
    in_time = False

    @kit.registry.job(name=f"block-{kit.queue}")
    async def block() -> None:
        nonlocal in_time
        (tmp_path / "go").touch()
        for _ in range(200):
            time.sleep(0.05)  # noqa: ASYNC251  # that is what is tested
            if (tmp_path / "done").exists():
                in_time = True
                return

    async def talks() -> bool:
        return (await kit.client.find(handle.id)).progress is not None

    async with kit.worker(lease=30):
        await eventually(talks)
        await kit.enqueue(block)
        job = await kit.ended(handle.id, 30)
    assert (job.state, job.result) == (State.SUCCEEDED, 1000)
    assert in_time


async def test_job_that_is_cancelled_before_its_process_is_there_never_starts(kit: Kit, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    handle = await kit.enqueue(process_jobs.spin, {"pid_file": str(pid_file)})
    async with kit.worker():
        await kit.reaches(handle.id, State.RUNNING)
        await handle.cancel()
        assert (await kit.ended(handle.id)).state is State.CANCELLED
        after = await kit.enqueue(process_jobs.fail, {"how": "not"})  # behind it in the same pool
        assert await after.result(timeout=30) == 1
        assert not pid_file.exists()


async def test_soft_limit_reaches_into_the_process(kit: Kit) -> None:
    handle = await kit.enqueue(process_jobs.partial)
    await kit.drain()
    assert await handle.result(timeout=15) == "partial"


async def test_crash_fails_the_job_and_not_the_worker(kit: Kit) -> None:
    handle = await kit.enqueue(process_jobs.crash)
    async with kit.worker():
        job = await kit.ended(handle.id, 30)
        after = await kit.enqueue(process_jobs.fail, {"how": "not"})
        assert await after.result(timeout=30) == 1
    assert job.error is not None
    assert (job.state, job.error.type) == (State.FAILED, "ProcessDied")


async def test_pool_whose_idle_processes_were_killed_is_made_anew(kit: Kit) -> None:
    """As the kernel does when memory is short."""
    async with kit.worker():
        first = await kit.enqueue(process_jobs.fail, {"how": "not"})
        assert await first.result(timeout=30) == 1
        idle = [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]
        assert idle
        for child in idle:
            child.kill()
        for _ in range(10):
            handle = await kit.enqueue(process_jobs.fail, {"how": "not"})
            assert await handle.result(timeout=30) == 1


async def test_errors_keep_type_and_traceback_and_follow_the_policy(kit: Kit) -> None:
    handles = {how: await kit.enqueue(process_jobs.fail, {"how": how}) for how in HOW}
    odd = await kit.enqueue(process_jobs.odd)
    await kit.drain()
    jobs = {how: await handle.job() for how, handle in handles.items()}
    assert (jobs["retry"].state, jobs["retry"].result) == (State.SUCCEEDED, 2)
    assert (jobs["arq"].state, jobs["arq"].result) == (State.SUCCEEDED, 3)
    errors = {how: (job.error.type, job.tries) for how, job in jobs.items() if job.error}
    assert errors == {"key": ("KeyError", 3), "permanent": ("Permanent", 1), "exit": ("SystemExit", 1)}
    assert 'raise KeyError("missing")' in ((jobs["key"].error and jobs["key"].error.traceback) or "")
    job = await odd.job()
    assert (job.state, job.error.type if job.error else None) == (State.SUCCEEDED, "NotSerializable")


def test_process_jobs_must_be_plain_functions_of_a_module() -> None:
    registry = Registry()
    with pytest.raises(DefinitionError, match="plain `def`"):

        @registry.job(process=True)
        async def coroutine() -> None:
            await asyncio.sleep(0)


def test_signals_are_held_back_also_where_pythons_helper_for_processes_starts() -> None:
    # A process of its own: the helper starts with the first child, and its start lets the signals through.
    code = """
import multiprocessing, signal
from multiprocessing import resource_tracker
from worker.execution.processes.pool import _signals_held_back
with _signals_held_back():
    resource_tracker.ensure_running()  # as the first child does
    assert {signal.SIGTERM, signal.SIGINT} <= signal.pthread_sigmask(signal.SIG_BLOCK, ())
assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


async def test_processes_that_do_not_end_are_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where one waits for a disk that hangs, which nothing can kill; here the pool is what waits."""
    go = threading.Event()
    join = pebble.ProcessPool.join

    def hang(pool: pebble.ProcessPool) -> None:
        go.wait(30)
        join(pool)

    monkeypatch.setattr(pebble.ProcessPool, "join", hang)
    processes = Processes(1, 1000)
    processes._open_pool()
    began = time.monotonic()
    await processes.close()
    assert time.monotonic() - began < 2.0
    go.set()
