"""Limits of a job over all workers: how often it may start, how many may run. Decided in the claim script."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from worker.core import wire
from worker.core.errors import DefinitionError

PERIODS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
LONGEST_VALUE = 64  # characters of an argument that a key holds as it is; of longer ones it holds a digest
LONGEST_PERIOD = 1000 * 86400.0
MOST_COUNTED = 1_000_000
_RATE = re.compile(r"(\d+)/(\d*)([smhd])")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most so many starts in any period: `RateLimit("100/m")`, `RateLimit("5/10s", by="tenant")`.

    Units are s, m, h, d. `by` names an argument of the job; each of its values has a count of its own.
    """

    rate: str
    by: str | None = None

    def __post_init__(self) -> None:
        if (
            not _RATE.fullmatch(self.rate)
            or not 0 < self.count <= MOST_COUNTED
            or not 0 < self.period <= LONGEST_PERIOD
        ):
            raise DefinitionError(
                f"a rate must be like 100/m, 5/s or 20/10s, and at most 1000000/1000d, not {self.rate!r}"
            )

    @property
    def count(self) -> int:
        """Starts in a period."""
        return int(self.rate.partition("/")[0])

    @property
    def period(self) -> float:
        """Seconds."""
        match = _RATE.fullmatch(self.rate)
        return 0.0 if match is None else float(match[2] or 1) * PERIODS[match[3]]

    def key(self, job: str, arguments: Mapping[str, Any]) -> str:
        """The key of its count. A changed limit starts a new count."""
        return f"r:{self.count}:{self.period * 1000:.0f}:{_counted(job, self.by, arguments)}"


@dataclass(frozen=True, slots=True)
class ConcurrencyLimit:
    """At most so many running at once: `ConcurrencyLimit(3)`, `ConcurrencyLimit(1, by="tenant")`."""

    most: int
    by: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.most <= MOST_COUNTED:
            raise DefinitionError(f"a concurrency limit must be from 1 to {MOST_COUNTED}, not {self.most}")

    def key(self, job: str, arguments: Mapping[str, Any]) -> str:
        """The key of its count. A changed limit starts a new count."""
        return f"c:{self.most}:0:{_counted(job, self.by, arguments)}"


Limit = RateLimit | ConcurrencyLimit


def limit_keys(job: str, limits: Sequence[Limit], arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """What the claim script counts for a call with these JSON-ready arguments."""
    return tuple(limit.key(job, arguments) for limit in limits)


def held_keys(keys: Sequence[str]) -> list[str]:
    """Those of the keys that a running job holds until it ends."""
    return [key for key in keys if key.startswith("c:")]


def _counted(job: str, by: str | None, arguments: Mapping[str, Any]) -> str:
    if by is None:
        return job
    value = wire.dumps(arguments.get(by)).decode()
    if len(value) > LONGEST_VALUE:
        value = hashlib.sha256(value.encode()).hexdigest()[:32]
    return f"{job}:{by}={value}"
