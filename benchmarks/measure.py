"""One system, measured once: each phase on an empty private Redis, with one worker process."""

import os
import random
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import redis

from benchmarks.systems import REDIS_PORT, System
from worker.dev import private_redis

PATIENCE = 60.0
CONCURRENCY = 100
CHORD = 10_000
Figures = dict[str, float]


@dataclass(frozen=True)
class Bench:
    """A system on a Redis, with a folder where its jobs write."""

    system: System
    url: str
    folder: Path

    def environment(self, **more: object) -> dict[str, str]:
        fixed = {
            "REDIS_URL": self.url,
            "BENCH_FOLDER": str(self.folder),
            "BENCH_CONCURRENCY": str(CONCURRENCY),
            "EMBARQ_JOBS": "benchmarks.peers.embarq",
        }
        return {
            **os.environ,
            **fixed,
            **dict(self.system.environment),
            **{name: str(value) for name, value in more.items()},
        }

    def peer(self, *arguments: object, **more: object) -> str:
        """Run a command of the peer to its end; what it printed."""
        command = [str(self.system.python()), "-m", f"benchmarks.peers.{self.system.peer}", *map(str, arguments)]
        done = subprocess.run(
            command, env=self.environment(**more), check=True, capture_output=True, text=True, timeout=PATIENCE
        )
        return done.stdout

    @contextmanager
    def worker(self, **more: object) -> Iterator[psutil.Process]:
        """A worker, its log in a file, for as long as the block runs."""
        command = [str(self.system.python()), "-m", f"benchmarks.peers.{self.system.peer}", "worker"]
        with (self.folder / "worker.log").open("ab") as log:
            process = subprocess.Popen(command, env=self.environment(**more), stdout=log, stderr=log)
        try:
            yield psutil.Process(process.pid)
        finally:
            family = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
            for child in family:
                if child.is_running():
                    child.kill()
            process.wait()

    def fill(self, job: str, count: int) -> None:
        """Put jobs into the queue, the fastest way that the system has."""
        self.peer("enqueue", "bulk" if self.system.bulk else "concurrent", job, count)

    def wait_for(self, name: str) -> float:
        """The time that a job wrote into a file."""
        return float(self.read(name))

    def read(self, name: str) -> str:
        """What a job wrote into a file, once it is there."""
        deadline = time.monotonic() + PATIENCE
        path = self.folder / name
        while not path.exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.system.name}: no {name} after {PATIENCE} s")
            time.sleep(0.002)
        time.sleep(0.002)
        return path.read_text()

    def drained(self, job: str, count: int, **more: object) -> Figures:
        """Seconds from the first job to the last, CPU of the worker and work of Redis a job, memory at the end."""
        for old in ("first", "last"):
            (self.folder / old).unlink(missing_ok=True)
        self.fill(job, count)
        with redis.Redis.from_url(self.url) as client, self.worker(BENCH_COUNT=count, **more) as process:
            first = self.wait_for("first")
            cpu, server = cpu_of(process), client.info("stats")
            last = self.wait_for("last")
            used, after = cpu_of(process) - cpu, client.info("stats")
            return {
                "seconds": last - first,
                "cpu": 1000 * used / count,
                "commands": (after["total_commands_processed"] - server["total_commands_processed"]) / count,
                "reads": (after["total_reads_processed"] - server["total_reads_processed"]) / count,
                "memory": memory_of(process),
            }

    def stamps(self) -> list[float]:
        path = self.folder / "stamps"
        return [float(line) for line in path.read_text().split()] if path.exists() else []

    def lateness(self, count: int, delay: float, patience: float) -> list[float]:
        """By how many milliseconds jobs started late."""
        (self.folder / "stamps").unlink(missing_ok=True)
        self.peer("stamps", count, delay)
        deadline = time.monotonic() + patience
        while len(self.stamps()) < count and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.stamps()


def cpu_of(process: psutil.Process) -> float:
    """Seconds of CPU that a process and its children have used."""
    times = [member.cpu_times() for member in (process, *process.children(recursive=True))]
    return sum(float(each.user + each.system) for each in times)


def memory_of(process: psutil.Process) -> float:
    """Megabytes that a process and its children hold."""
    return sum(float(member.memory_info().rss) for member in (process, *process.children(recursive=True))) / 2**20


def percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def measure(system: System, folder: Path, *, quick: bool) -> Figures:
    """All figures of one round."""
    figures: Figures = {}
    for name, phase in PHASES.items():
        if quick and name not in QUICK_PHASES:
            continue
        place = folder / f"{system.name}-{name}-{random.randrange(10**6)}".replace(" ", "-")
        place.mkdir(parents=True)
        with private_redis(place / "redis", port=REDIS_PORT) as url:
            try:
                figures |= phase(Bench(system, url, place))
            except (TimeoutError, subprocess.SubprocessError) as error:
                (place / "error").write_text(str(error))
    return figures


def enqueue(bench: Bench) -> Figures:
    """Jobs a second from one producer."""
    if bench.system.name == "floor":
        return {}
    figures = {"enqueue one by one/s": 1000 / float(bench.peer("enqueue", "one", "tick", 1000))}
    figures["enqueue 50 at once/s"] = 2000 / float(bench.peer("enqueue", "concurrent", "tick", 2000))
    if bench.system.bulk:
        figures["enqueue in bulk/s"] = 50_000 / float(bench.peer("enqueue", "bulk", "tick", 50_000))
    return figures


def no_op(bench: Bench) -> Figures:
    count = bench.system.drained
    run = bench.drained("tick", count)
    return {
        "drain no-op/s": count / run["seconds"],
        "worker CPU ms a job": run["cpu"],
        "Redis commands a job": run["commands"],
        "reads from clients a job": run["reads"],
        "memory MB, busy": run["memory"],
    }


def naps(bench: Bench) -> Figures:
    if not bench.system.sleeps:
        return {}
    brief = min(bench.system.drained, 5_000)
    return {
        "drain 1 ms/s": brief / bench.drained("nap1", brief, BENCH_THREADS=CONCURRENCY)["seconds"],
        "2,000 x 100 ms, s": bench.drained("nap100", 2_000, BENCH_THREADS=CONCURRENCY)["seconds"],
    }


def chords(bench: Bench) -> Figures:
    """A chord of 10,000 small jobs beside as many plain ones, from the first call to the last run; the worker is up."""
    if not bench.system.chords:
        return {}
    way = "bulk" if bench.system.bulk else "concurrent"
    with bench.worker(BENCH_COUNT=CHORD):
        time.sleep(3)
        plain = -float(bench.peer("timed", way, "tick", CHORD)) + bench.wait_for("last")
    with bench.worker():
        time.sleep(3)
        began = float(bench.peer("chord", CHORD))
        ended, total = bench.read("called").split()
    if int(total) != sum(range(CHORD)):
        raise TimeoutError(f"the callback got {total}")
    took = float(ended) - began
    return {"10,000 plain jobs, s": plain, "chord of 10,000, s": took, "chord to plain": took / plain}


def idle(bench: Bench) -> Figures:
    if bench.system.name == "floor":
        return {}
    with bench.worker() as process:
        if not bench.lateness(3, 0, 20):
            raise TimeoutError("the worker does not start")
        late = bench.lateness(100, 0, 20)
        figures = {f"pick-up p{p}, ms": percentile(late, p) for p in (50, 95, 99)}
        if bench.system.defers:
            due = bench.lateness(100, 2.0, 10)
            figures |= {"deferred late p50, ms": percentile(due, 50), "deferred late p99, ms": percentile(due, 99)}
        cpu = cpu_of(process)
        time.sleep(3)
        figures["idle CPU %"] = 100 * (cpu_of(process) - cpu) / 3
        figures["memory MB, idle"] = memory_of(process)
    return figures


PHASES = {"enqueue": enqueue, "no-op": no_op, "naps": naps, "chords": chords, "idle": idle}
QUICK_PHASES = {"no-op", "idle"}
