"""What the scenarios of the chaos test have in common: worker processes, a producer, and the account at the end."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos import jobs as _jobs  # noqa: F401  # registers the kinds for the client
from tests.chaos.checker import SeenTry, overlaps_of, problems_of, read_effects
from tests.support import ROOT
from worker import Client, Job, registry
from worker.core.errors import BrokerUnavailable

LEASE = 2.0
LONGEST_REFUSAL = 20.0  # seconds after which a client that is refused has not found its Redis again
TOLERATED = 0.05  # seconds that two runs of a job may overlap, while clocks and leases hold
SEED = int(os.environ.get("CHAOS_SEED", random.randrange(10**6)))


@dataclass
class Stage:
    """Workers, what they did, and what clients were told.

    `told_to_stop` and `frozen` are the ids of processes that may repeat a try's number, or may overlap.
    """

    folder: Path
    redis_url: str
    environment: Mapping[str, str] = field(default_factory=dict)
    workers: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    gone: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    acknowledged: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    told_to_stop: set[int] = field(default_factory=set)
    frozen: set[int] = field(default_factory=set)
    chance: random.Random = field(default_factory=lambda: random.Random(SEED))

    def __post_init__(self) -> None:
        self.effects.mkdir(exist_ok=True)

    @property
    def effects(self) -> Path:
        """Where jobs write what they do."""
        return self.folder / "effects"

    def start_worker(
        self, *arguments: str, prefix: Sequence[str] = (), root: Path = ROOT, **environment: str
    ) -> "subprocess.Popen[bytes]":
        """A worker of the checkout at `root`; `prefix` is a command that runs it."""
        settings = {
            "REDIS_URL": self.redis_url,
            "EMBARQ_JOBS": "tests.chaos.jobs,tests.chaos.flows",
            "EMBARQ_LEASE": str(LEASE),
            "EMBARQ_GRACE": "0.5",
            "EMBARQ_CANCEL_GRACE": "0.5",
            "EMBARQ_LEASES_LOST_LIMIT": "1000",
            "EMBARQ_LOG_LEVEL": "WARNING",
            "CHAOS_EFFECTS": str(self.effects),
            "PYTHONPATH": str(root),
        }
        with (self.folder / "workers.log").open("ab") as output:
            process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "worker.cli", "worker", "-c", "30", *arguments],
                cwd=root,
                env={**os.environ, **settings, **self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.workers.append(process)
        return process

    def stop(self, worker: "subprocess.Popen[bytes]", how: signal.Signals) -> None:
        """Kill it, or tell it to stop."""
        self.workers.remove(worker)
        self.gone.append(worker)
        if how is signal.SIGTERM:
            self.told_to_stop.add(worker.pid)
        worker.send_signal(how)

    async def call(self, client: Client, kind: str) -> str:
        """Enqueue one job of a kind, as often as it takes to be acknowledged."""
        give_up_at = time.monotonic() + LONGEST_REFUSAL
        while time.monotonic() < give_up_at:
            with suppress(BrokerUnavailable):
                handle = await client.enqueue(registry.get(kind).call())
                self.acknowledged[handle.id] = kind
                return handle.id
            self.counts["refused"] += 1
        raise AssertionError(f"nothing is acknowledged any more; {self.counts['refused']} were refused")

    async def produce(self, client: Client, count: int, seconds: float, kinds: Mapping[str, int]) -> None:
        """Enqueue so many at an even rate, of kinds by their weights, and remember what was acknowledged."""
        chosen = self.chance.choices(list(kinds), list(kinds.values()), k=count)
        started = time.monotonic()
        for number, kind in enumerate(chosen):
            await asyncio.sleep(max(0.0, started + number * seconds / count - time.monotonic()))
            await self.call(client, kind)

    async def all_ended(self, client: Client, limit: float) -> dict[str, Job]:
        """Every acknowledged job, ended, within so many seconds."""
        ended: dict[str, Job] = {}
        deadline = time.monotonic() + limit
        while len(ended) < len(self.acknowledged):
            waiting = [job_id for job_id in self.acknowledged if job_id not in ended]
            assert time.monotonic() < deadline, [await client.find(job_id) for job_id in waiting[:5]]
            for job_id in waiting:
                job = await client.find(job_id)
                if job.state.ended:
                    ended[job_id] = job
            await asyncio.sleep(0.2)
        return ended

    def account(self, ended: Mapping[str, Job], tolerated: float = TOLERATED) -> "Account":
        """What became of the jobs, by what they wrote themselves."""
        effects = read_effects(self.effects)
        wrong = {
            job_id: problems_of(
                job, self.acknowledged[job_id], effects[job_id], self.told_to_stop, self.frozen, tolerated
            )
            for job_id, job in ended.items()
        }
        overlaps = [seconds for job_id in ended for seconds in overlaps_of(effects[job_id], self.frozen)]
        reruns = sum(max(0, len(effects[job_id]) - 1) for job_id in ended)
        return Account({job_id: found for job_id, found in wrong.items() if found}, overlaps, reruns, effects)

    def close(self) -> None:
        """End all that was started; it ends by itself when it is told to."""
        late = []
        for worker in self.workers:
            worker.terminate()
        for worker in [*self.workers, *self.gone]:
            try:
                worker.wait(20)
            except subprocess.TimeoutExpired:
                late.append(worker.pid)
                worker.kill()
                worker.wait()
        assert not late, f"workers {late} did not end when they were told to"


@dataclass(frozen=True)
class Account:
    """What is wrong, by job; by how many seconds runs of one job overlapped; how often jobs ran again."""

    wrong: dict[str, list[str]]
    overlaps: list[float]
    reruns: int
    effects: dict[str, list[SeenTry]]

    def rerun(self) -> dict[str, list[str]]:
        """Jobs that ran more than once: number, worker, span and last event of each run."""
        return {
            job_id: [f"{t.number} in {t.worker}, {t.first:.3f} to {t.last:.3f}, {t.events[-1]}" for t in tries]
            for job_id, tries in self.effects.items()
            if len(tries) > 1
        }

    def line(self, name: str, stage: Stage, more: Iterable[str] = ()) -> str:
        """The account in a line."""
        longest = f", the longest {max(self.overlaps) * 1000:.0f} ms" if self.overlaps else ""
        facts = [
            f"{len(stage.acknowledged):,} jobs",
            f"{len(self.wrong)} harmed",
            f"{self.reruns} reruns",
            f"{len(self.overlaps)} overlaps{longest}",
            *(f"{count} {what}" for what, count in stage.counts.items()),
            *more,
        ]
        return f"\nchaos: {name}: {', '.join(facts)}"
