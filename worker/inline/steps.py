"""Steps of jobs that run once (`Context.once`), recorded in memory, with the rules of `broker/lua/once.lua`."""

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace

from worker.broker.exchange import Claimed
from worker.broker.queue_store import Step, StepAction
from worker.inline.frames import InlineDeadlock, frames
from worker.inline.memory import Memory

MOST_STEPS = 10_000
MOST_BYTES = 64 * 1024 * 1024  # of their values, beside the newest


@dataclass(frozen=True, slots=True)
class _Record:
    """`value`: what the step returned; None while `holder` is inside of it."""

    holder: Claimed
    until: float
    value: bytes | None = None

    @property
    def size(self) -> int:
        return len(self.value or b"")


class StepRecords:
    """Which steps were done, and by whom one is being done. Safe for all threads of the process."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._records: OrderedDict[str, _Record] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def once(self, key: str, claimed: Claimed, action: StepAction, value: bytes, keep_ms: int) -> tuple[Step, bytes]:
        """Begin or end a step; with `Step.DONE` comes the value that it returned.

        Raises:
            InlineDeadlock: the caller runs inside of the step.
        """
        with self._lock:
            return self._once(key, claimed, action, value, keep_ms)

    def _once(self, key: str, claimed: Claimed, action: StepAction, value: bytes, keep_ms: int) -> tuple[Step, bytes]:
        known = self._records.get(key)
        if known is not None and time.monotonic() >= known.until:
            self._drop(key)
            known = None
        if known is not None and known.value is not None:
            return Step.DONE, known.value
        if not self._lives(claimed):
            return Step.LOST, b""
        if known is not None and known.holder.token != claimed.token and self._lives(known.holder):
            if any(frame.run.claimed.token == known.holder.token for frame in frames()):
                raise InlineDeadlock(f"step {key!r} must not run inside of itself, in job {known.holder.id}")
            return Step.HELD, b""
        if action is StepAction.UNDONE:
            self._drop(key)
            return Step.YOURS, b""
        is_done = action is StepAction.DONE
        self._keep(
            key, _Record(replace(claimed, payload=b""), time.monotonic() + keep_ms / 1000, value if is_done else None)
        )
        return (Step.DONE, value) if is_done else (Step.YOURS, b"")

    def _keep(self, key: str, record: _Record) -> None:
        self._drop(key)
        self._records[key] = record
        self._bytes += record.size
        while len(self._records) > 1 and (len(self._records) > MOST_STEPS or self._bytes > MOST_BYTES):
            self._drop(next(iter(self._records)))

    def _drop(self, key: str) -> None:
        dropped = self._records.pop(key, None)
        if dropped is not None:
            self._bytes -= dropped.size

    def _lives(self, claimed: Claimed) -> bool:
        """Whether a try is still under way."""
        entry = self._memory.find(claimed.id)
        return entry is not None and entry.run is not None and entry.run.claimed.token == claimed.token
