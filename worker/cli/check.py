"""What the doctor says of one thing."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. A warning is no reason not to start."""

    what: str
    ok: bool
    finding: str
    warning: bool = False
