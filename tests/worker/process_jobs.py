"""Jobs that run in processes of their own; a child finds them by this module's name."""

import ctypes
import logging
import os
import time
from pathlib import Path

import arq

from worker import Context, Permanent, Registry, Retry, RetryPolicy, SoftTimeLimitExceeded, current_context

registry = Registry()


@registry.job(process=True)
def whereabouts(ctx: Context, word: str) -> dict[str, object]:
    ctx.progress(1, 2, word)
    logging.getLogger("child").warning("hello from the child")
    current = current_context()
    return {"pid": os.getpid(), "job_id": current.job_id if current else None, "try": ctx.try_number}


@registry.job(process=True)
def spin(pid_file: str) -> None:
    with open(pid_file, "w") as file:
        file.write(str(os.getpid()))
    while True:
        try:
            time.sleep(0.01)
        except BaseException:  # noqa: S112  # a stubborn one
            continue


@registry.job(process=True)
def nap(pid_file: str, seconds: float) -> str:
    with open(pid_file, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(seconds)
    return "rested"


@registry.job(process=True)
def talk(ctx: Context, folder: str, times: int) -> int:
    """Once it may, say much more than a mailbox holds that nobody empties."""
    ctx.progress(0, times)
    while not (Path(folder) / "go").exists():
        time.sleep(0.01)
    for n in range(times):
        ctx.progress(n, times, "x" * 1000)
        logging.getLogger("child").warning("x" * 1000)
    (Path(folder) / "done").touch()
    return times


@registry.job(process=True, soft_timeout=1.0, timeout=30)
def partial() -> str:
    try:
        while True:
            time.sleep(0.01)
    except SoftTimeLimitExceeded:
        return "partial"


@registry.job(process=True)
def crash() -> None:
    ctypes.string_at(0)


@registry.job(process=True, max_tries=3, retry=RetryPolicy(on=(LookupError,), delay=0))
def fail(ctx: Context, how: str) -> int:
    if how == "retry" and ctx.try_number == 1:
        raise Retry(delay=0)
    if how == "arq" and ctx.try_number < 3:
        raise arq.Retry(defer=0)
    if how == "key":
        raise KeyError("missing")
    if how == "permanent":
        raise Permanent("no")
    if how == "exit":
        raise SystemExit(3)
    return ctx.try_number


@registry.job(process=True)
def odd() -> object:
    return object()


@registry.job(process=True)
def large(size: int) -> str:
    return "x" * size


@registry.job(process=True)
def wordy(ctx: Context, size: int) -> None:
    ctx.progress(1, 2, "p" * size)
    logging.getLogger("child").warning("l" * size)
    raise RuntimeError("e" * size)


@registry.job(process=True)
def times(ctx: Context) -> dict[str, object]:
    return {"enqueue_time": ctx.enqueue_time.isoformat(), "workflow_id": ctx.workflow_id}


@registry.job(process=True)
def wants_client(ctx: Context) -> str:
    return str(ctx.client)


@registry.job(process=True)
def tells(ctx: Context, size: int) -> None:
    ctx.progress(1, 2, "half", meta={"file": "x" * size})
