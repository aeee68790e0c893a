"""What a worker fetches: which jobs its claims ask for, and the round trips in which outcomes go and jobs come."""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Collection, Sequence

import structlog
from redis.exceptions import ResponseError

from worker.broker.encoding import new_id
from worker.broker.exchange import Ack, Claim, Claimed, ClaimRequest
from worker.broker.queue_selection import Service
from worker.broker.queue_store import QueueStore
from worker.core import keys
from worker.core.away import REDIS
from worker.core.config import WorkerConfig
from worker.core.errors import BrokerUnavailable
from worker.core.job import Priority
from worker.definition.registry import Registry
from worker.execution.attempt import Attempt
from worker.runtime.actions import Ask, Exchange
from worker.runtime.events import Answered, Brought, Ended, Interrupted, Refused, Unavailable

logger = structlog.stdlib.get_logger("embarq.worker")

CONFIRM_AGAIN_AFTER = 0.1

Trip = Exchange[Ended[Attempt, Ack]]
Answer = Answered[Attempt, Ack] | Unavailable[Attempt, Ack] | Refused[Attempt, Ack] | Interrupted[Attempt, Ack]


def new_worker_id() -> str:
    """Tells people where a worker runs, and is nobody else's."""
    return f"{socket.gethostname().replace(':', '-')}-{os.getpid()}-{new_id()[12:24]}"


class Claiming:
    """The claims of one worker. `service`: the queues that it serves now; one of all queues begins with those that jobs
    declare, until Redis names those that are known. `wake_keys`: the lists in which tokens for these are. `prepare`
    makes a run of a claimed job."""

    def __init__(
        self, worker: str, config: WorkerConfig, registry: Registry, prepare: Callable[[Claimed], Attempt]
    ) -> None:
        self.worker = worker
        self._config = config
        self._registry = registry
        self._prepare = prepare
        asked = Service.read(config.queues)
        self._serves_all = asked.serves_all
        declared = sorted({"default", *registry.queues})[: keys.QUEUES_ASKED // len(Priority)]
        self._serve(Service(tuple(declared)) if asked.serves_all else asked)

    def _serve(self, service: Service) -> None:
        self.service = service
        self.wake_keys = [keys.WAKE_ANY] if service.by_use else [keys.wake_key(queue) for queue in service.queues]

    @property
    def served(self) -> Collection[str]:
        """The queues that this worker says it serves, by their names."""
        return self._registry.queues if self._serves_all else self.service.queues

    def heard_of(self, queue_keys: Sequence[str]) -> None:
        """Serve those, too, if all are to be served."""
        if self._serves_all:
            known = {keys.parse_queue_key(key)[0] for key in queue_keys}
            by_use = len(queue_keys) > keys.QUEUES_ASKED
            self._serve(Service(tuple(sorted(known | set(self._registry.queues))), by_use=by_use))

    def request(self, ask: Ask) -> ClaimRequest:
        """What goes to Redis."""
        number, lease_ms = ask.number, self._config.lease_ms
        order, lowest_first = self.service.keys(number), self.service.lowest_first(number)
        return ClaimRequest(self.worker, number, order, ask.limit, lease_ms, lowest_first, ask.suspects)

    def brought(self, claim: Claim, asked_at: float) -> Brought[Attempt]:
        """What came. Leases count from before the claim was sent: this process may have been frozen since."""
        runs = [self._prepare(claimed) for claimed in claim.jobs]
        for run in runs:
            run.leased_until = asked_at + self._config.lease
        return Brought(runs, claim.next_due_in, claim.more, claim.suspects)


class Fetcher:
    """Makes the round trips of one worker, and says what came of each."""

    def __init__(self, queue_store: QueueStore, claiming: Claiming, lease: float) -> None:
        """`lease`, in seconds, bounds how long a claim is confirmed."""
        self._queue_store = queue_store
        self._claiming = claiming
        self._lease = lease

    async def exchange(self, trip: Trip, tell: Callable[[Answer], None]) -> None:
        """Store outcomes, give back what was not heard of, claim."""
        answer: Answer = Interrupted(trip)
        asked_at = time.monotonic()
        acks = [ended.ack for ended in trip.ended if ended.ack is not None]
        request = None if trip.ask is None else self._claiming.request(trip.ask)
        unheard = (self._claiming.worker, trip.unheard)
        try:
            stored, claim = await self._queue_store.exchange(acks, request, unheard)
            REDIS.goes_on(self)
            brought = None if claim is None else self._claiming.brought(claim, asked_at)
            answer = Answered(trip, stored, brought, time.monotonic())
        except BrokerUnavailable as error:
            REDIS.waits(self, error)
            answer = Unavailable(trip, time.monotonic())
        except (ResponseError, ValueError) as error:
            self._log(acks, error)
            answer = Refused(trip, time.monotonic())
        finally:
            tell(answer)

    def _log(self, acks: list[Ack], error: Exception) -> None:
        if len(acks) == 1:
            logger.error("an outcome cannot be stored", job_id=acks[0].claimed.id, reason=str(error))
        else:
            logger.warning("redis refuses what the worker asks", reason=str(error), outcomes=len(acks))

    async def confirm(self, number: int) -> None:
        """Say that a claim was heard of, also where Redis is away for a moment; where it never hears of it, the try may
        not count."""
        until = time.monotonic() + self._lease
        while time.monotonic() < until:
            try:
                await self._queue_store.heard(self._claiming.worker, number)
            except (BrokerUnavailable, ResponseError):
                await asyncio.sleep(CONFIRM_AGAIN_AFTER)
            else:
                return

    def close(self) -> None:
        """It asks no more, and does not see Redis come back."""
        REDIS.leaves(self)
