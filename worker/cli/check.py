"""One finding of the doctor."""

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked. A warning is no reason not to start."""

    what: str
    ok: bool
    finding: str
    warning: bool = False

    @classmethod
    def fine(cls, what: str, finding: str) -> Self:
        """It is as it should be."""
        return cls(what, True, finding)

    @classmethod
    def doubtful(cls, what: str, finding: str) -> Self:
        """Somebody should look at it."""
        return cls(what, True, finding, warning=True)

    @classmethod
    def wrong(cls, what: str, finding: str) -> Self:
        """Something does not work."""
        return cls(what, False, finding)
