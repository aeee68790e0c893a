"""Periodic tasks: what is done, how often, and the one loop that does it. Also background services, which loop
themselves."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from worker.core.away import DATABASE, REDIS, server_of
from worker.core.errors import BrokerUnavailable

logger = structlog.stdlib.get_logger("embarq.worker")

PAUSE_AFTER_ERROR = 1.0
OUTAGES: tuple[type[Exception], ...] = (BrokerUnavailable, OSError)


@dataclass(frozen=True, slots=True)
class PeriodicTask:
    """A periodic task, run every `interval` seconds; with 0, again as soon as it returns: it waits for its work itself.

    `outages`: errors that say that something it needs is unavailable; they are logged without a traceback, and once for
    all periodic tasks (`worker.core.away`).
    """

    name: str
    interval: float
    run_once: Callable[[], Awaitable[object]]
    outages: tuple[type[Exception], ...] = OUTAGES


async def keep_running(task: PeriodicTask) -> None:
    """Run a periodic task until cancelled. No error in it ends the loop."""
    pause, who = task.interval, object()
    try:
        while True:
            await asyncio.sleep(pause)
            pause = task.interval if await _done(task, who) else max(task.interval, PAUSE_AFTER_ERROR)
    finally:
        for server in (REDIS, DATABASE):
            server.leaves(who)


async def _done(task: PeriodicTask, who: object) -> bool:
    """Run it once; whether it succeeded."""
    try:
        await task.run_once()
    except Exception as error:
        if isinstance(error, task.outages):
            logger.debug("periodic task waits", task=task.name, reason=str(error))
            server_of(error).waits(who, error)
        else:
            logger.exception("periodic task failed", task=task.name)
        return False
    for server in (REDIS, DATABASE):
        server.goes_on(who)
    return True


async def keep_all_running(*tasks: PeriodicTask) -> None:
    """Run several periodic tasks until cancelled."""
    async with asyncio.TaskGroup() as group:
        for task in tasks:
            group.create_task(keep_running(task), name=task.name)


class BackgroundService(Protocol):
    """A background service of a worker process, such as the relay of an outbox."""

    async def run(self) -> None:
        """Serve until cancelled; no error may end it."""
        ...
