"""What inline mode remembers, in place of Redis: bounded in number and bytes, gone with the process."""

import asyncio
import itertools
import math
import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from worker.broker import keys
from worker.broker.broker import NewJob
from worker.broker.exchange import Ended, life
from worker.inline.flow import Flow
from worker.run import Run, Stop

MOST_ENDED = 10_000
MOST_BYTES = 64 * 1024 * 1024  # of the results of ended jobs, beside the newest
MOST_NODES = 200_000  # of ended workflows, beside the newest


@dataclass(slots=True, eq=False)
class Entry:
    """One job. `payload` and `result` are what Redis would hold; `past` are records of earlier tries. A workflow's job
    knows its `step`, the workflow and its node."""

    new: NewJob
    payload: bytes
    step: "tuple[Flowing, int] | None" = None
    tries: int = 0
    past: list[bytes] = field(default_factory=list)
    is_cancelled: bool = False
    run: Run | None = None
    loop: asyncio.AbstractEventLoop | None = None
    result: bytes = b""
    forget_at: float = math.inf

    @property
    def id(self) -> str:
        """The job's id."""
        return self.new.id

    @property
    def has_ended(self) -> bool:
        """Whether nothing follows."""
        return bool(self.result)

    def stop(self) -> bool:
        """Cancel the try that is under way, and those that would follow; from any thread. Whether there is one."""
        self.is_cancelled = True
        run, loop = self.run, self.loop
        if run is None or loop is None or loop.is_closed():
            return False
        loop.call_soon_threadsafe(run.cancel, Stop.CANCELLED)
        return True


@dataclass(slots=True, eq=False)
class Flowing:
    """A workflow, and its jobs that are ready, in the order in which they run. `is_carried_out`: somebody runs them."""

    flow: Flow
    queue: deque[Entry] = field(default_factory=deque)
    is_carried_out: bool = False
    forget_at: float = math.inf

    @property
    def id(self) -> str:
        """The workflow's id."""
        return self.flow.new.id


class Memory:
    """Jobs and workflows by id, and the calls that `unique_for` makes one. Used by all threads of the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[str, Entry] = {}
        self._ended: OrderedDict[str, Entry] = OrderedDict()
        self._bytes = 0
        self._unique: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._flows: OrderedDict[str, Flowing] = OrderedDict()
        self._ended_flows: OrderedDict[str, Flowing] = OrderedDict()
        self._nodes = 0

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
        """Keep a new job, unless its id is taken; the job that has it."""
        with self._lock:
            known = self._find(entry.id)
            if known is not None:
                return known
            self._under_way[entry.id] = entry
            return entry

    def end(self, entry: Entry, ended: Ended) -> None:
        """Keep how a job ended for as long as its result is to be kept; of one without result, a trace for a minute."""
        kept_ms = life(ended.ttl_ms)
        with self._lock:
            entry.result = ended.result if kept_ms else ended.trace
            entry.payload = b""
            if kept_ms >= 0:
                entry.forget_at = time.monotonic() + (kept_ms or keys.TOMBSTONE_MS) / 1000
            self._under_way.pop(entry.id, None)
            self._ended[entry.id] = entry
            self._bytes += len(entry.result)
            while len(self._ended) > 1 and (len(self._ended) > MOST_ENDED or self._bytes > MOST_BYTES):
                self._forget(next(iter(self._ended.values())))

    def forget(self, job_id: str) -> None:
        """Let an ended job's id be used again."""
        with self._lock:
            entry = self._ended.get(job_id)
            if entry is not None:
                self._forget(entry)

    def _forget(self, entry: Entry) -> None:
        if self._ended.pop(entry.id, None) is not None:
            self._bytes -= len(entry.result)

    def standing_for(self, unique: str, job_id: str) -> str:
        """The job that a call is which `unique_for` makes one with others; `job_id` where there is none yet.

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
        """Of all jobs that are remembered, in the order in which they ended; those under way come last."""
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
        """Keep a workflow that runs, a new one or one that runs again."""
        with self._lock:
            if self._ended_flows.pop(flowing.id, None) is not None:
                self._nodes -= len(flowing.flow.new.nodes)
            flowing.forget_at = math.inf
            self._flows[flowing.id] = flowing

    def end_flow(self, flowing: Flowing) -> None:
        """Keep an ended workflow for as long as it asked for."""
        with self._lock:
            if flowing.id in self._ended_flows:
                return
            flowing.forget_at = time.monotonic() + flowing.flow.new.keep_ms / 1000
            self._ended_flows[flowing.id] = flowing
            self._nodes += len(flowing.flow.new.nodes)
            while len(self._ended_flows) > 1 and self._nodes > MOST_NODES:
                self._forget_flow(next(iter(self._ended_flows.values())))

    def _forget_flow(self, flowing: Flowing) -> None:
        self._flows.pop(flowing.id, None)
        if self._ended_flows.pop(flowing.id, None) is not None:
            self._nodes -= len(flowing.flow.new.nodes)
