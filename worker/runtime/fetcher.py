"""The traffic between a worker and Redis: outcomes go and jobs come in the same round trips."""

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Sequence
from typing import Protocol, cast

import structlog
from redis.exceptions import ResponseError

from worker.broker.exchange import Claim, ClaimRequest, Settlement
from worker.broker.queue_selection import Service
from worker.broker.queue_store import Broker
from worker.core.away import REDIS
from worker.core.config import WorkerConfig
from worker.core.errors import BrokerUnavailable
from worker.runtime.claims import Claims
from worker.runtime.isolation import Isolation, Turn

logger = structlog.stdlib.get_logger("embarq.worker")

LONGEST_BACKOFF = 2.0
CONFIRM_AGAIN_AFTER = 0.1
MOST_BYTES = 4 * 1024 * 1024  # of outcomes in one round trip, where there is more than one


class Slots(Protocol):
    """The worker, as the pump sees it."""

    @property
    def id(self) -> str:
        """The worker's id."""
        ...

    def room(self, leaving: int) -> int:
        """How many jobs it could start once `leaving` more have left; 0 when it is told to stop."""
        ...

    def done(self, *, idle: bool) -> bool:
        """Whether the worker should end. `idle`: nothing is under way, nothing runs that the pump knows of."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs, and jobs are welcome."""
        ...

    def begin(self, claim: Claim, leased_until: float) -> None:
        """Start the jobs of a claim."""
        ...

    def settled(self, settlements: Sequence[Settlement], stored: Sequence[bool]) -> None:
        """Free the slots of jobs whose outcomes were stored, or refused."""
        ...


class Pump:
    """Sends what has ended and claims what is due, until its worker is done.

    While more is due than there is room for, two round trips are under way, each for half of the slots: Redis works on
    one batch while the worker runs the other.
    """

    def __init__(self, broker: Broker, config: WorkerConfig, slots: Slots, isolation: Isolation) -> None:
        self._broker = broker
        self._isolation = isolation
        self._config = config
        self._slots = slots
        self._outbox: list[Settlement] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self._asked_for = 0
        self._standing: ClaimRequest | None = None
        self._alone = 0
        self._claims = Claims(config.lease)
        self._confirming: set[asyncio.Task[None]] = set()
        self._leaving = 0
        self._sent: list[list[Settlement]] = []
        self._signal = asyncio.Event()
        self._claim_at = 0.0
        self._resume_at = 0.0
        self._failures = 0
        self._looks = 0
        self.backlog = False
        self.nothing_waits = False
        self.service = Service(())

    def send(self, settlement: Settlement) -> None:
        """Take an outcome to Redis with the next round trip."""
        self._outbox.append(settlement)
        self._signal.set()

    def unsettled(self) -> list[Settlement]:
        """The outcomes that Redis has not confirmed, those on their way too. May be called from any thread."""
        return [settlement for batch in (*self._sent, self._outbox) for settlement in batch]

    def look(self) -> None:
        """Claim as soon as there is room: something is due."""
        self._looks += 1
        self._claim_at = 0.0
        self._signal.set()

    def stir(self) -> None:
        """Look again whether the worker is done."""
        self._signal.set()

    @property
    def has_room(self) -> bool:
        """Whether a job of which it is told could start now."""
        return self._isolation.turn() is Turn.OTHERS and self._slots.room(0) > 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs, and jobs are welcome."""
        return self._slots.is_idle and self._isolation.turn() is Turn.OTHERS

    def standing_claim(self) -> ClaimRequest | None:
        """A claim for one job, to be left in Redis until something is due, with a slot kept for it until `stood`; None
        when jobs run, or may be coming."""
        if not self.is_idle or self._asked_for:
            return None
        self._standing = self._claim_for(1)
        return self._standing

    def stood(self, claim: Claim | None, leased_until: float) -> None:
        """Start what a standing claim brought (None: it was not made, or its answer got lost)."""
        request, self._standing = self._standing, None
        if claim is None or request is None:
            self._claims.lost(request.number if request else 0)
            self.look()
            return
        self._isolation.heard(request, claim)
        self._begin(request.number, claim, leased_until)
        if claim.more or self._isolation.turn() is Turn.SUSPECTS:
            self.look()
        elif claim.next_due_in is not None:
            self._claim_at = min(self._claim_at, time.monotonic() + claim.next_due_in)
        if not claim.jobs or claim.next_due_in is not None:
            self.stir()

    async def run(self) -> None:
        """Work until the worker is done."""
        try:
            await self._exchange_until_done()
        finally:
            REDIS.leaves(self)

    async def _exchange_until_done(self) -> None:
        async with asyncio.TaskGroup() as group:
            while not self._slots.done(idle=not (self._under_way or self._outbox or self._standing)):
                exchange = self._next()
                if exchange is None:
                    await self._sleep()
                elif self.backlog:
                    self._under_way.add(group.create_task(exchange))
                else:
                    await exchange
            for task in self._under_way | self._confirming:
                task.cancel()

    def _next(self) -> Coroutine[None, None, None] | None:
        """The next round trip, if there is something to say and nothing to wait for."""
        now = time.monotonic()
        if now < self._resume_at or len(self._under_way) > self.backlog:
            return None
        most = -(-self._config.concurrency // 2) if self.backlog else self._config.concurrency
        settlements = self._outbox[: 1 if self._alone else _fitting(self._outbox, most)]
        request = None if self._alone else self._request(now, self._leaving + len(settlements), most)
        if request is None and not settlements:
            return None
        self._outbox = self._outbox[len(settlements) :]
        self._sent.append(settlements)
        self._leaving += len(settlements)
        return self._exchange(settlements, request)

    def _request(self, now: float, leaving: int, most: int) -> ClaimRequest | None:
        limit = min(most, self._room(leaving))
        if limit <= 0 or now < self._claim_at:
            return None
        self._asked_for += limit
        return self._claim_for(limit, suspects=self._isolation.turn() is Turn.SUSPECTS)

    def _room(self, leaving: int) -> int:
        """How many jobs may be asked for. Suspects are asked for when nothing else may be coming."""
        turn, coming = self._isolation.turn(), self._asked_for + (self._standing is not None)
        if turn is Turn.OTHERS:
            return self._slots.room(leaving) - coming
        return 0 if turn is Turn.NOTHING or coming else self._isolation.limit(self._slots.room(leaving))

    def _claim_for(self, limit: int, *, suspects: bool = False) -> ClaimRequest:
        number = self._claims.begin()
        order, lowest_first = self.service.keys(number), self.service.lowest_first(number)
        return ClaimRequest(self._slots.id, number, order, limit, self._config.lease_ms, lowest_first, suspects)

    async def _exchange(self, settlements: list[Settlement], request: ClaimRequest | None) -> None:
        asked_at, looks = time.monotonic(), self._looks
        unheard = self._claims.to_give_back(asked_at)
        claim: Claim | None = None
        keeps = True  # until Redis has answered, also where this is cancelled
        try:
            stored, claim = await self._broker.exchange(settlements, request, (self._slots.id, unheard))
            keeps = False
        except BrokerUnavailable as error:
            REDIS.waits(self, error)
            self._back_off()
            return
        except (ResponseError, ValueError) as error:
            keeps = self._refused(settlements, error)
            return
        finally:
            self._under_way.discard(cast("asyncio.Task[None]", asyncio.current_task()))
            self._asked_for -= request.limit if request else 0
            self._leaving -= len(settlements)
            self._outbox = settlements + self._outbox if keeps else self._outbox
            self._sent = [batch for batch in self._sent if batch is not settlements]
            self._signal.set()
            if request is not None and claim is None:
                self._claims.lost(request.number)
        self._failures = 0
        REDIS.goes_on(self)
        self._alone = max(0, self._alone - 1)
        self._claims.given_back(unheard, time.monotonic())
        self._slots.settled(settlements, stored)
        if request is not None and claim is not None:
            self._take(request, claim, asked_at, news=claim.more or looks != self._looks)

    def _take(self, request: ClaimRequest, claim: Claim, asked_at: float, *, news: bool) -> None:
        """Start what a claim brought, and note when to claim again. `news`: more came while it was under way."""
        self.backlog = claim.more
        self.nothing_waits = self._isolation.heard(request, claim)
        wait = self._config.poll if claim.next_due_in is None else min(self._config.poll, claim.next_due_in)
        news = news or (not claim.jobs and self._isolation.turn() is Turn.SUSPECTS and not request.suspects)
        self._claim_at = 0.0 if news else time.monotonic() + wait
        self._begin(request.number, claim, asked_at + self._config.lease)

    def _begin(self, number: int, claim: Claim, leased_until: float) -> None:
        """Start jobs. That they were heard of is on its way to Redis before the first of them runs: the task that says
        so comes before theirs, and writes at once."""
        self._claims.answered(number)
        if claim.jobs:
            confirming = asyncio.create_task(self._confirm(number), name="confirm a claim")
            self._confirming.add(confirming)
            confirming.add_done_callback(self._confirming.discard)
        self._slots.begin(claim, leased_until)

    async def _confirm(self, number: int) -> None:
        """Say so, also where Redis is away for a moment; where it never hears of it, the try may not count."""
        until = time.monotonic() + self._config.lease
        while time.monotonic() < until:
            try:
                await self._broker.heard(self._slots.id, number)
            except (BrokerUnavailable, ResponseError):
                await asyncio.sleep(CONFIRM_AGAIN_AFTER)
            else:
                return

    def _refused(self, settlements: list[Settlement], error: Exception) -> bool:
        """Redis lives and refuses. Outcomes are sent one by one then, so that only the one at fault is left out: its
        job starts anew when its lease has ended. Whether they are to be sent again."""
        if len(settlements) == 1:
            logger.error("an outcome cannot be stored", job_id=settlements[0].claimed.id, reason=str(error))
            self._alone = max(0, self._alone - 1)
            self._slots.settled(settlements, [False])
            return False
        self._alone = max(self._alone, len(settlements))
        logger.warning("redis refuses what the worker asks", reason=str(error), failures=self._failures + 1)
        self._back_off()
        return True

    def _back_off(self) -> None:
        self._failures += 1
        self._resume_at = time.monotonic() + min(LONGEST_BACKOFF, 0.1 * 2**self._failures)

    async def _sleep(self) -> None:
        """Wait for an outcome, a wake-up, or the time of the next claim."""
        now, until = time.monotonic(), self._resume_at
        if until <= now:
            may_claim = not self._under_way and self._room(0) > 0
            until = self._claim_at if may_claim else now + self._config.poll
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, min(until - now, self._config.poll))):
                await self._signal.wait()
        self._signal.clear()


def _fitting(outbox: Sequence[Settlement], most: int) -> int:
    """How many of the first outcomes go together: `most`, unless they are large."""
    size = 0
    for count, settlement in enumerate(outbox[:most]):
        size += settlement.size
        if size > MOST_BYTES and count:
            return count
    return most
