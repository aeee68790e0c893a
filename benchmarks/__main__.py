"""`python -m benchmarks`: every system in turn, round after round, on a private Redis each. `--quick`: ours and arq."""

import argparse
import os
import platform
import sys
import tempfile
from pathlib import Path

from benchmarks import growth, history, http
from benchmarks.measure import Figures, measure
from benchmarks.report import PLOT, RESULTS, medians, plot, table
from benchmarks.systems import ALL, QUICK, System
from worker.dev import redis_program


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--growth", action="store_true", help="only how cost grows")
    options.add_argument("--history", action="store_true", help="only the history in the database")
    chosen = options.parse_args()
    if chosen.history:
        sys.stdout.write(f"{history.report()}\n")
        return
    if chosen.growth:
        sys.stdout.write(f"{growth.report()}\n\n{http.report()}\n")
        return
    systems = QUICK if chosen.quick else ALL
    found = run(systems, 1 if chosen.quick else chosen.rounds, quick=chosen.quick)
    text = table(found)
    sys.stdout.write(text + "\n")
    if not chosen.quick:
        RESULTS.write_text(document(found, text, chosen.rounds))
        PLOT.write_text(plot(found))


def run(systems: tuple[System, ...], rounds: int, *, quick: bool) -> dict[System, Figures]:
    """Medians over the rounds; in each round all systems run, one after the other."""
    for system in systems:
        system.python()
    gathered: dict[str, list[Figures]] = {system.name: [] for system in systems}
    with tempfile.TemporaryDirectory(prefix="embarq-") as folder:
        for number in range(rounds):
            for system in systems:
                gathered[system.name].append(measure(system, Path(folder) / str(number), quick=quick))
                sys.stderr.write(f"round {number + 1} of {rounds}: {system.name} done\n")
    return {system: medians(gathered[system.name]) for system in systems}


def document(found: dict[System, Figures], text: str, rounds: int) -> str:
    """The page of results."""
    versions = "\n".join(f"- {s.name} {s.version()}{': ' + s.note if s.note else ''}" for s in found)
    return f"""# Results

Written by `make bench`. Medians of {rounds} interleaved rounds; every phase on an empty private Redis
({redis_program().name}, append-only file, fsync each second), one worker process at concurrency 100, results
stored, Python {platform.python_version()}, {os.cpu_count()} cores. A drain counts from the start of its first job to
the end of its last. "Reads from clients" bounds the round trips. Ours runs with all that is on by default: leases,
fencing, events, validation, two log lines a job to a file.

{text}

{versions}
"""


if __name__ == "__main__":
    main()
