"""Interruptions of threads at their worst moment: as the function returns."""

import asyncio
import contextlib
import ctypes
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.support import Kit
from worker import Context, Registry
from worker.execution.threads import JobThread


class Interrupted(Exception):
    """What the tests throw in."""


@pytest.fixture
def escaped() -> Iterator[list[object]]:
    """What came out of threads."""
    seen: list[object] = []
    before, threading.excepthook = threading.excepthook, lambda args: seen.append(args.exc_type)
    yield seen
    threading.excepthook = before


async def test_interruption_that_comes_up_after_the_return_is_dropped(escaped: list[object]) -> None:
    """It is thrown as the function's frame goes: the return value is there, and the caller has not seen it."""
    for n in range(50):

        def work(n: int = n) -> int:
            throw = partial(
                ctypes.pythonapi.PyThreadState_SetAsyncExc,
                ctypes.c_ulong(threading.get_ident()),
                ctypes.py_object(Interrupted),
            )
            keep = type("Parting", (), {"__del__": staticmethod(throw)})()
            return n if keep else -1

        definition = Registry().job()(work)
        thread = JobThread("test", definition.bound(Context(job_id="1", job="work"), {"n": n}), lambda: None)
        assert await asyncio.wait_for(thread.run(), 5) == n
    assert escaped == []


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Threads take turns every 10 µs."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("quick_switches")
async def test_interruptions_at_any_moment_come_out_of_run_or_not_at_all(escaped: list[object]) -> None:
    came = missed = 0
    for n in range(300):

        def work(n: int = n) -> int:
            _spin(0.001)
            return n

        thread = JobThread("test", work, lambda: None)
        shooting = threading.Thread(target=_shoot, args=(thread, 0.002 * (n % 50) / 50))
        running = asyncio.create_task(thread.run())
        shooting.start()
        try:
            assert await asyncio.wait_for(running, 5) == n
            missed += 1
        except Interrupted:
            came += 1
        shooting.join()
    assert came
    assert missed
    assert escaped == []


def _spin(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def _shoot(thread: JobThread, after: float) -> None:
    _spin(after)
    thread.interrupt(Interrupted)


async def test_interruption_before_the_start_is_the_first_thing_that_happens() -> None:
    ran = []
    thread = JobThread("test", lambda: ran.append(1), lambda: None)
    thread.interrupt(Interrupted)
    with pytest.raises(Interrupted):
        await thread.run()
    assert ran == []


async def test_cancellation_that_comes_with_the_result_leaves_the_result() -> None:
    go = threading.Event()

    def work() -> str:
        go.wait(5)
        return "done"

    thread = JobThread("test", work, lambda: None)
    running = asyncio.create_task(thread.run())
    await asyncio.sleep(0.01)
    go.set()
    time.sleep(0.05)  # noqa: ASYNC251  # the function has returned, and the loop has not heard of it
    running.cancel()
    assert await running == "done"


async def test_second_cancellation_leaves_a_deaf_thread_behind() -> None:
    go = threading.Event()
    thread = JobThread("test", lambda: go.wait(20), lambda: None)
    running = asyncio.create_task(thread.run())
    await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running], timeout=0.05)
    assert not running.done()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.wait_for(running, 1)
    assert running.cancelled()
    go.set()


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration, GeneratorExit, KeyError])
async def test_whatever_a_plain_function_raises_is_told(kit: Kit, kind: type[BaseException]) -> None:
    @kit.registry.job()
    def first() -> None:
        raise kind("odd")

    @kit.registry.job()
    def second() -> int:
        return next(iter([]))

    jobs = [await kit.enqueue(first), await kit.enqueue(second)]
    await kit.drain()
    told = [(await kit.ended(job.id)).error for job in jobs]
    assert [error and error.type for error in told] == [
        "RuntimeError" if kind is StopIteration else kind.__name__,
        "RuntimeError",
    ]
    assert told[1] is not None
    assert "StopIteration" in told[1].message


TRACED = """
import asyncio, threading
from worker.execution.threads import JobThread

def trace(frame, event, arg):
    return trace

async def run():
    for n in range(3):
        print(await JobThread("traced", lambda: n, lambda: len("ended")).run())
        threading.settrace(trace)

asyncio.run(run())
"""


def test_threads_run_under_a_tracer() -> None:
    """As a debugger or a measurement of coverage has. In a process of its own: a thread that spins cannot be ended."""
    ended = subprocess.run([sys.executable, "-c", TRACED], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout.split(), ended.stderr) == (["0", "1", "2"], "")
