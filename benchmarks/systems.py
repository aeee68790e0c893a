"""The systems that are measured: their packages, how much work each is given, and what must be known of them."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENTS = Path(".embarq") / "bench"
REDIS_PORT = 18_379  # TCP, as everywhere but on a developer's machine


@dataclass(frozen=True)
class System:
    """`drained`: no-op jobs of one drain, about five seconds' worth. `packages`: none means our own environment."""

    name: str
    peer: str
    drained: int
    packages: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    sleeps: bool = True
    defers: bool = True
    bulk: bool = False
    chords: bool = False
    note: str = ""

    def python(self) -> Path:
        """The interpreter of the system's environment, made when it is missing."""
        if not self.packages:
            return Path(sys.executable)
        place = ENVIRONMENTS / self.peer
        program = place / "bin" / "python"
        if not (place / "ready").exists():
            subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
            subprocess.run([str(program), "-m", "pip", "install", "--quiet", *self.packages], check=True)
            (place / "ready").touch()
        return program.absolute()

    def version(self) -> str:
        """The installed version."""
        name = self.packages[0].partition("[")[0].partition("=")[0] if self.packages else "embarq"
        code = f"import importlib.metadata as m; print(m.version({name!r}))"
        run = subprocess.run([str(self.python()), "-c", code], capture_output=True, text=True, check=False)
        return run.stdout.strip() or "of this checkout"


OURS = System("embarq", "embarq", 100_000, bulk=True, chords=True)
FLOOR = System("floor", "floor", 100_000, bulk=True, defers=False, note="no feature at all: how near can one get")
ARQ = System("arq", "arq", 5_000, ("arq==0.28", "uvloop"), note="as shipped, but for its concurrency")
TUNED = System(
    "arq tuned",
    "arq",
    10_000,
    ("arq==0.28", "uvloop"),
    (("BENCH_TUNED", "1"),),
    note="read limit 10,000, poll 10 ms",
)
PEERS = (
    System("SAQ", "saq", 12_000, ("saq[redis,hiredis]", "typing-extensions", "uvloop"), defers=False, note="uvloop"),
    System(
        "taskiq",
        "taskiq",
        10_000,
        ("taskiq", "taskiq-redis", "uvloop"),
        defers=False,
        note="streams; its list broker loses a crashed worker's jobs",
    ),
    System("streaq", "streaq", 6_000, ("streaq", "uvloop"), bulk=True),
    System("docket", "docket", 3_000, ("pydocket", "uvloop")),
    System(
        "Celery",
        "celery",
        5_000,
        ("celery[redis]",),
        sleeps=False,
        chords=True,
        note="prefork 1; acknowledges first",
    ),
    System("dramatiq", "dramatiq", 8_000, ("dramatiq[redis]",), note="8 threads, 100 for sleeps"),
    System("RQ", "rq", 1_500, ("rq",), sleeps=False, defers=False, note="simple worker, no fork a job"),
)
ALL = (OURS, FLOOR, ARQ, TUNED, *PEERS)
QUICK = (OURS, ARQ)
