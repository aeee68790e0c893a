"""The memory of inline mode, in place of Redis: bounded in number and bytes, lost with the process."""

import asyncio
import itertools
import math
import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field, replace

from worker.broker.exchange import Ended
from worker.broker.queue_store import NewJob
from worker.broker.round_trips import life
from worker.core import keys
from worker.execution.attempt import Attempt, Stop
from worker.inline.flow import Flow

MOST_ENDED = 10_000
MOST_BYTES = 64 * 1024 * 1024  # of ended jobs, and as many of ended workflows, beside the newest
MOST_NODES = 200_000  # of ended workflows, beside the newest


@dataclass(slots=True, eq=False)
class Entry:
    """One job. `payload` and `result` are what Redis would hold; `past` are records of earlier tries. `step` of a
    workflow's job: the workflow and its node."""

    new: NewJob
    payload: bytes
    step: "tuple[Flowing, int] | None" = None
    tries: int = 0
    past: list[bytes] = field(default_factory=list)
    is_cancelled: bool = False
    run: Attempt | None = None
    loop: asyncio.AbstractEventLoop | None = None
    result: bytes = b""
    forget_at: float = math.inf

    @property
    def id(self) -> str:
        """The job's id."""
        return self.new.id

    @property
    def size(self) -> int:
        """Bytes that are kept of it once it has ended."""
        return len(self.result) + sum(map(len, self.past))

    @property
    def has_ended(self) -> bool:
        """Whether nothing follows."""
        return bool(self.result)

    def stop(self) -> bool:
        """Cancel the try that is under way, and those that would follow; from any thread. Whether there is one."""
        self.is_cancelled = True
        run, loop = self.run, self.loop
        if run is None or loop is None:
            return False
        try:
            loop.call_soon_threadsafe(run.cancel, Stop.CANCELLED)
        except RuntimeError:  # the loop is closed
            return False
        return True


@dataclass(slots=True, eq=False)
class Flowing:
    """A workflow, and its ready jobs, in the order in which they run. `is_carried_out`: a caller runs them. `counted`:
    how many of its bytes the memory counts; none before it has ended."""

    flow: Flow
    queue: deque[Entry] = field(default_factory=deque)
    is_carried_out: bool = False
    counted: int = 0
    forget_at: float = math.inf

    @property
    def id(self) -> str:
        """The workflow's id."""
        return self.flow.new.id


class Memory:
    """Jobs and workflows by id, and the calls that `unique_for` makes one. Safe for all threads of the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[str, Entry] = {}
        self._ended: OrderedDict[str, Entry] = OrderedDict()
        self._bytes = 0
        self._unique: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._flows: OrderedDict[str, Flowing] = OrderedDict()
        self._ended_flows: OrderedDict[str, Flowing] = OrderedDict()
        self._nodes = 0
        self._flow_bytes = 0

    def find(self, job_id: str) -> Entry | None:
        """A job that is under way, or is still remembered."""
        with self._lock:
            return self._find(job_id)

    def _find(self, job_id: str) -> Entry | None:
        entry = self._under_way.get(job_id) or self._ended.get(job_id)
        if entry is not None and time.monotonic() >= entry.forget_at:
            self._forget(entry)
            return None
        return entry

    def take(self, entry: Entry) -> Entry:
        """Keep a new job, unless its id is taken; the job that has the id."""
        with self._lock:
            known = self._find(entry.id)
            if known is not None:
                return known
            self._under_way[entry.id] = entry
            return entry

    def end(self, entry: Entry, ended: Ended) -> None:
        """Keep the end of a job for as long as its result is to be kept; without a result, a trace for a minute."""
        kept_ms = life(ended.ttl_ms)
        with self._lock:
            entry.result = ended.result if kept_ms else ended.trace
            entry.payload, entry.new = b"", replace(entry.new, payload=b"")
            if kept_ms >= 0:
                entry.forget_at = time.monotonic() + (kept_ms or keys.TOMBSTONE_MS) / 1000
            self._under_way.pop(entry.id, None)
            self._ended[entry.id] = entry
            self._bytes += entry.size
            while self._ended and self._has_one_too_many():
                self._forget(next(iter(self._ended.values())))

    def _has_one_too_many(self) -> bool:
        """Whether the oldest of the ended jobs must be forgotten: it has expired, or takes room."""
        if time.monotonic() >= next(iter(self._ended.values())).forget_at:
            return True
        return len(self._ended) > 1 and (len(self._ended) > MOST_ENDED or self._bytes > MOST_BYTES)

    def forget(self, job_id: str) -> None:
        """Let an ended job's id be used again."""
        with self._lock:
            entry = self._ended.get(job_id)
            if entry is not None:
                self._forget(entry)

    def _forget(self, entry: Entry) -> None:
        if self._ended.pop(entry.id, None) is not None:
            self._bytes -= entry.size

    def standing_for(self, unique: str, job_id: str) -> str:
        """The job that stands for a call with `unique_for`; `job_id` where there is none yet.

        A debounced or throttled call is always a job of its own: it is run at once, so none waits to be replaced.
        """
        mode, _, rest = unique.partition(":")
        if mode != "u":
            return job_id
        ms, _, key = rest.partition(":")
        now = time.monotonic()
        with self._lock:
            known, until = self._unique.get(key, ("", 0.0))
            if now < until:
                return known
            self._unique[key] = (job_id, now + int(ms) / 1000)
            self._unique.move_to_end(key)
            while len(self._unique) > MOST_ENDED:
                self._unique.popitem(last=False)
            return job_id

    def ids(self) -> list[str]:
        """The ids of all jobs that are remembered, in the order in which they ended; those under way come last."""
        with self._lock:
            return list(itertools.chain(self._ended, self._under_way))

    def find_flow(self, workflow_id: str) -> Flowing | None:
        """A workflow that is under way, or is still remembered."""
        with self._lock:
            flowing = self._flows.get(workflow_id)
            if flowing is not None and time.monotonic() >= flowing.forget_at:
                self._forget_flow(flowing)
                return None
            return flowing

    def take_flow(self, flowing: Flowing) -> None:
        """Keep a workflow that runs, a new one or a resumed one."""
        with self._lock:
            self._forget_end(flowing)
            flowing.forget_at = math.inf
            self._flows[flowing.id] = flowing

    def end_flow(self, flowing: Flowing) -> None:
        """Keep an ended workflow for as long as it asked for. May be called again, as jobs of it end after it."""
        with self._lock:
            if self._flows.get(flowing.id) is not flowing:  # it is forgotten already
                return
            if flowing.id not in self._ended_flows:
                flowing.forget_at = time.monotonic() + flowing.flow.new.keep_ms / 1000
                self._ended_flows[flowing.id] = flowing
                self._nodes += len(flowing.flow.new.nodes)
            self._flow_bytes += flowing.flow.size - flowing.counted
            flowing.counted = flowing.flow.size
            while self._ended_flows and self._has_one_flow_too_many():
                self._forget_flow(next(iter(self._ended_flows.values())))

    def _has_one_flow_too_many(self) -> bool:
        if time.monotonic() >= next(iter(self._ended_flows.values())).forget_at:
            return True
        return len(self._ended_flows) > 1 and (self._nodes > MOST_NODES or self._flow_bytes > MOST_BYTES)

    def _forget_flow(self, flowing: Flowing) -> None:
        self._flows.pop(flowing.id, None)
        self._forget_end(flowing)

    def _forget_end(self, flowing: Flowing) -> None:
        if self._ended_flows.pop(flowing.id, None) is not None:
            self._nodes -= len(flowing.flow.new.nodes)
            self._flow_bytes -= flowing.counted
            flowing.counted = 0
