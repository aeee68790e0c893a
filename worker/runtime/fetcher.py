"""Exchanges with Redis: outcomes go and jobs come in the same round trip."""

import asyncio
import time

import structlog
from redis.exceptions import ResponseError

from worker.broker.exchange import Settlement
from worker.broker.queue_store import Broker
from worker.core.away import REDIS
from worker.core.errors import BrokerUnavailable
from worker.execution.attempt import Run
from worker.runtime.actions import Exchange
from worker.runtime.claiming import Claiming
from worker.runtime.events import Answered, Ended, Refused, Unavailable

logger = structlog.stdlib.get_logger("embarq.worker")

CONFIRM_AGAIN_AFTER = 0.1

Trip = Exchange[Ended[Run, Settlement]]
Answer = Answered[Run, Settlement] | Unavailable[Run, Settlement] | Refused[Run, Settlement]


class Fetcher:
    """Makes the round trips of one worker, and says what came of each."""

    def __init__(self, broker: Broker, claiming: Claiming, lease: float) -> None:
        """`lease`, in seconds, bounds how long a claim is confirmed."""
        self._broker = broker
        self._claiming = claiming
        self._lease = lease

    async def exchange(self, trip: Trip) -> Answer:
        """Store outcomes, give back what was not heard of, claim."""
        asked_at = time.monotonic()
        settlements = [ended.ack for ended in trip.ended if ended.ack is not None]
        request = None if trip.ask is None else self._claiming.request(trip.ask)
        unheard = (self._claiming.worker, trip.unheard)
        try:
            stored, claim = await self._broker.exchange(settlements, request, unheard)
        except BrokerUnavailable as error:
            REDIS.waits(self, error)
            return Unavailable(trip, time.monotonic())
        except (ResponseError, ValueError) as error:
            self._tell(settlements, error)
            return Refused(trip, time.monotonic())
        REDIS.goes_on(self)
        brought = None if claim is None else self._claiming.brought(claim, asked_at)
        return Answered(trip, stored, brought, time.monotonic())

    def _tell(self, settlements: list[Settlement], error: Exception) -> None:
        if len(settlements) == 1:
            logger.error("an outcome cannot be stored", job_id=settlements[0].claimed.id, reason=str(error))
        else:
            logger.warning("redis refuses what the worker asks", reason=str(error), outcomes=len(settlements))

    async def confirm(self, number: int) -> None:
        """Say that a claim was heard of, also where Redis is away for a moment; where it never hears of it, the try may
        not count."""
        until = time.monotonic() + self._lease
        while time.monotonic() < until:
            try:
                await self._broker.heard(self._claiming.worker, number)
            except (BrokerUnavailable, ResponseError):
                await asyncio.sleep(CONFIRM_AGAIN_AFTER)
            else:
                return

    def close(self) -> None:
        """It asks no more, and does not see Redis come back."""
        REDIS.leaves(self)
