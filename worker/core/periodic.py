"""Background duties: what is done again and again, how often, and the one loop that does it."""

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
    """Something to do every `interval` seconds; with 0, as soon as it is done: it waits for its work by itself.

    `outages`: errors that say that something it needs is away for a while; they are told without a traceback, and
    of all duties once (`worker.core.away`).
    """

    name: str
    interval: float
    run_once: Callable[[], Awaitable[object]]
    outages: tuple[type[Exception], ...] = OUTAGES


async def keep_doing(duty: Duty) -> None:
    """Do a duty for ever. Nothing that goes wrong in it ends it."""
    pause, who = duty.interval, object()
    try:
        while True:
            await asyncio.sleep(pause)
            pause = duty.interval if await _done(duty, who) else max(duty.interval, PAUSE_AFTER_ERROR)
    finally:
        for server in (REDIS, DATABASE):
            server.leaves(who)


async def _done(duty: Duty, who: object) -> bool:
    """Do it once; whether it was done."""
    try:
        await duty.run_once()
    except Exception as error:
        if isinstance(error, duty.outages):
            logger.debug("duty waits", duty=duty.name, reason=str(error))
            server_of(error).waits(who, error)
        else:
            logger.exception("duty failed", duty=duty.name)
        return False
    for server in (REDIS, DATABASE):
        server.goes_on(who)
    return True


async def keep_doing_all(*duties: Duty) -> None:
    """Do several duties at once, for ever."""
    async with asyncio.TaskGroup() as group:
        for duty in duties:
            group.create_task(keep_doing(duty), name=duty.name)


class Companion(Protocol):
    """Something that a worker process does beside its jobs, such as relaying an outbox."""

    async def run(self) -> None:
        """Do it until cancelled; nothing that goes wrong in it may end it."""
        ...
