"""Steps of a job that run once, by a record in Redis. What it promises: `Context.once`."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from worker.broker.exchange import Claimed
from worker.broker.queue_store import QueueStore, Step, StepAction
from worker.core import wire
from worker.core.errors import LONGEST_DELAY, BrokerUnavailable, LeaseLost

T = TypeVar("T")

HELD_PAUSE = 0.1


@dataclass(frozen=True, slots=True)
class LeasedSteps:
    """The steps of one try, in the right of its lease. `most`: bytes that a step's value may take as JSON."""

    queue_store: QueueStore
    claimed: Claimed
    most: int

    async def once(self, key: str, step: Callable[[], Awaitable[T]], keep: float) -> T:
        """Run `step` or return what an earlier run gave; wait while another try is inside it."""
        if not 0.001 <= keep <= LONGEST_DELAY:
            raise ValueError(f"keep must be from 0.001 to {LONGEST_DELAY:.0f} s, not {keep}")
        keep_ms = int(keep * 1000)
        while True:
            answer, kept = await self.queue_store.once(key, self.claimed, StepAction.BEGIN, keep_ms=keep_ms)
            if answer is Step.DONE:
                return cast(T, wire.loads(kept, Any))
            if answer is Step.YOURS:
                break
            self._check(answer)
            await asyncio.sleep(HELD_PAUSE)
        try:
            value = wire.dumps_within(await step(), self.most)
        except BaseException:
            with contextlib.suppress(BrokerUnavailable):  # then the end of this lease lets others in
                await self.queue_store.once(key, self.claimed, StepAction.UNDONE, keep_ms=keep_ms)
            raise
        answer, kept = await self.queue_store.once(key, self.claimed, StepAction.DONE, value=value, keep_ms=keep_ms)
        self._check(answer)
        return cast(T, wire.loads(kept, Any))

    def _check(self, answer: Step) -> None:
        if answer is Step.LOST:
            raise LeaseLost(self.claimed.id)
