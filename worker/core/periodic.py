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
class Duty:
    """A periodic task, run every `interval` seconds; with 0, again as soon as it returns: it waits for its work itself.

    `outages`: errors that say that something it needs is unavailable; they are logged without a traceback, and once for
    all periodic tasks (`worker.core.away`).
    """

    name: str
    interval: float
    run_once: Callable[[], Awaitable[object]]
    outages: tuple[type[Exception], ...] = OUTAGES


async def keep_doing(duty: Duty) -> None:
    """Run a periodic task until cancelled. No error in it ends the loop."""
    pause, who = duty.interval, object()
    try:
        while True:
            await asyncio.sleep(pause)
            pause = duty.interval if await _done(duty, who) else max(duty.interval, PAUSE_AFTER_ERROR)
    finally:
        for server in (REDIS, DATABASE):
            server.leaves(who)


async def _done(duty: Duty, who: object) -> bool:
    """Run it once; whether it succeeded."""
    try:
        await duty.run_once()
    except Exception as error:
        if isinstance(error, duty.outages):
            logger.debug("periodic task waits", task=duty.name, reason=str(error))
            server_of(error).waits(who, error)
        else:
            logger.exception("periodic task failed", task=duty.name)
        return False
    for server in (REDIS, DATABASE):
        server.goes_on(who)
    return True


async def keep_doing_all(*duties: Duty) -> None:
    """Run several periodic tasks until cancelled."""
    async with asyncio.TaskGroup() as group:
        for duty in duties:
            group.create_task(keep_doing(duty), name=duty.name)


class Companion(Protocol):
    """A background service of a worker process, such as the relay of an outbox."""

    async def run(self) -> None:
        """Serve until cancelled; no error may end it."""
        ...
