"""Background duties: what is done once, how often, and the one loop that does it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from worker.errors import BrokerUnavailable

logger = structlog.stdlib.get_logger("embarq.worker")


@dataclass(frozen=True, slots=True)
class Duty:
    """Something to do every `interval` seconds."""

    name: str
    interval: float
    run_once: Callable[[], Awaitable[None]]


async def keep_doing(duty: Duty) -> None:
    """Do a duty for ever. Nothing that goes wrong in it ends it."""
    while True:
        await asyncio.sleep(duty.interval)
        try:
            await duty.run_once()
        except BrokerUnavailable as error:
            logger.warning("duty waits for redis", duty=duty.name, reason=str(error))
        except Exception:
            logger.exception("duty failed", duty=duty.name)
