"""What clients saw and what jobs wrote, held against each other."""

import json
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from pathlib import Path

from worker import Job, State

KEPT = (
    "arq:result:",
    "embarq:tries:",
    "embarq:events",
    "embarq:queues",
    "embarq:wake:",
    "embarq:worker",
    "embarq:control:",
    "embarq:claimed:",  # of workers that were killed, for a day
    "embarq:workflow:",
    "embarq:nodes:",
    "embarq:calls:",
    "embarq:waits:",
    "embarq:ends:",
    "embarq:values:",
)
UNHEARD_OF = 2.5  # seconds: Redis may be restarting just then


@dataclass
class SeenTry:
    """One start of a job, as its own lines tell: signs of life between two times."""

    number: int
    worker: int
    first: float
    last: float
    events: list[str] = field(default_factory=list)


def read_effects(folder: Path) -> dict[str, list[SeenTry]]:
    """Every job's tries in the order of their starts. A start is its own try, whatever number it claims."""
    lines = [json.loads(line) for file in folder.glob("*.jsonl") for line in file.read_text().splitlines()]
    tries: dict[str, list[SeenTry]] = defaultdict(list)
    running: dict[tuple[str, int, int], SeenTry] = {}
    for line in sorted(lines, key=lambda line: line["at"]):
        key = (line["id"], line["try"], line["worker"])
        if line["event"] == "start":
            running[key] = SeenTry(line["try"], line["worker"], line["at"], line["at"])
            tries[line["id"]].append(running[key])
        running[key].last = line["at"]
        running[key].events.append(line["event"])
    return tries


def overlaps_of(tries: list[SeenTry], frozen: set[int]) -> list[float]:
    """Seconds for which runs of one job went on side by side, but for those of workers that were frozen."""
    pairs = [(before, after) for before, after in combinations(tries, 2) if before.worker not in frozen]
    return [min(before.last, after.last) - after.first for before, after in pairs if after.first < before.last]


def is_unheard_of(run: SeenTry) -> bool:
    """Whether its worker was killed so soon after the start that what it said of its claim may not have reached Redis:
    such a try does not count."""
    return run.events[-1] in {"start", "alive"} and run.last - run.first < UNHEARD_OF


def problems_of(
    job: Job, kind: str, tries: list[SeenTry], told_to_stop: set[int], frozen: set[int], tolerated: float = 0.0
) -> list[str]:
    """What is wrong with a job that a client was told is queued. `tolerated`: seconds that two runs may overlap.

    A worker that was told to stop gives its try back, as does one whose database is down, so the same number may start
    again after it. A worker that was frozen for longer than its lease cannot know it, and goes on for a moment when it
    thaws; all else is a fault.
    """
    found = []
    expected = State.FAILED if kind == "failing" else State.SUCCEEDED
    if job.state is not expected:
        found.append(f"is {job.state}, should be {expected}: {job.error}")
    ended = [t for t in tries if t.events[-1] == "end"]
    if not ended:
        found.append("ended without a run that ended")
    numbers = [t.number for t in tries]
    if tries and max(numbers) > job.tries:
        found.append(f"has {job.tries} tries, but try {max(numbers)} ran")
    for before, after in pairwise(tries):
        given_back = before.worker in told_to_stop or before.events[-1] == "outage" or is_unheard_of(before)
        if after.number <= before.number and not given_back and after.worker not in frozen:
            found.append(f"try {after.number} began after try {before.number}, which was not given back")
        if before.last - after.first > tolerated and before.worker not in frozen:
            found.append(f"try {after.number} began {before.last - after.first:.3f} s before {before.number} ended")
    stored = job.result["try"] if isinstance(job.result, dict) else job.tries
    if expected is State.SUCCEEDED and (job.tries != stored or stored not in [t.number for t in ended]):
        found.append(f"the stored result is of try {stored}, but {[t.number for t in ended]} ended")
    kept = [t.number for t in job.attempts]
    if kept != list(range(job.tries - len(kept) + 1, job.tries + 1)):
        found.append(f"history has tries {kept} of {job.tries}")
    return found


def leftovers(keys: list[str]) -> list[str]:
    """Keys that should be gone when all jobs have ended."""
    return [key for key in keys if not key.startswith(KEPT)]
