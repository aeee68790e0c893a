"""Steps of jobs that run once (`Context.once`), recorded in memory: as `broker/lua/once.lua` has it."""

import time
from collections import OrderedDict
from dataclasses import dataclass

from worker.broker.broker import Step, StepAction
from worker.broker.exchange import Claimed
from worker.inline.frames import InlineDeadlock, frames
from worker.inline.memory import Memory

MOST_STEPS = 10_000


@dataclass(frozen=True, slots=True)
class _Record:
    """`value`: what the step gave, once it has; before, `holder` is inside of it."""

    holder: Claimed
    until: float
    value: bytes | None = None


class StepRecords:
    """Which steps were done, and by whom one is being done."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def once(self, key: str, claimed: Claimed, action: StepAction, value: bytes, keep_ms: int) -> tuple[Step, bytes]:
        """Begin or end a step; with `Step.DONE` comes the value that it gave.

        Raises:
            InlineDeadlock: the caller runs inside of the step.
        """
        known = self._records.get(key)
        if known is not None and time.monotonic() >= known.until:
            del self._records[key]
            known = None
        if known is not None and known.value is not None:
            return Step.DONE, known.value
        if not self._lives(claimed):
            return Step.LOST, b""
        if known is not None and known.holder.token != claimed.token and self._lives(known.holder):
            if any(frame.run.claimed.token == known.holder.token for frame in frames()):
                raise InlineDeadlock(f"step {key!r} waits for job {known.holder.id}, inside of whose step it runs")
            return Step.HELD, b""
        if action is StepAction.UNDONE:
            self._records.pop(key, None)
            return Step.YOURS, b""
        is_done = action is StepAction.DONE
        self._keep(key, _Record(claimed, time.monotonic() + keep_ms / 1000, value if is_done else None))
        return (Step.DONE, value) if is_done else (Step.YOURS, b"")

    def _keep(self, key: str, record: _Record) -> None:
        self._records[key] = record
        self._records.move_to_end(key)
        while len(self._records) > MOST_STEPS:
            self._records.popitem(last=False)

    def _lives(self, claimed: Claimed) -> bool:
        """Whether a try is still under way."""
        entry = self._memory.find(claimed.id)
        return entry is not None and entry.run is not None and entry.run.claimed.token == claimed.token
