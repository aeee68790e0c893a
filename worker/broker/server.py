"""What a Redis server says about itself, as far as it matters to jobs."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """A Redis server, as far as jobs are concerned. `memory` is for people; `most_bytes` is what it may hold, 0 for no
    limit; `damaged` are keys that held another type than they should, the newest first. `problem`: why no job can run
    there. `refusal`: its error where INFO is forbidden; then all else is unknown."""

    version: str
    problem: str | None
    memory: str
    most_bytes: int
    damaged: tuple[str, ...]
    evicts: bool
    policy: str
    persists: bool
    refusal: str | None = None

    @property
    def evicting(self) -> list[str]:
        """Why jobs may be lost there at any time."""
        return [f"maxmemory-policy is {self.policy}: jobs may be evicted; set noeviction"] if self.evicts else []

    @property
    def forgetting(self) -> list[str]:
        """Why a restart may lose jobs there."""
        return (
            []
            if self.persists or self.refusal
            else ["the append-only file is off: a restart may lose jobs; set appendonly yes"]
        )

    @property
    def warnings(self) -> list[str]:
        """Why jobs may be lost there, and what has been."""
        found = [*self.evicting, *self.forgetting]
        if self.refusal:
            found.append(f"it refuses INFO, so whether it may lose jobs is unknown; allow +info ({self.refusal})")
        if self.damaged:
            found.append(f"keys held another type than they should, and were set aside: {', '.join(self.damaged)}")
        return found

    def share(self, most_bytes: int, part: int) -> int:
        """`most_bytes`, or a part (8: an eighth) of what the server may hold, if that is less."""
        return min(most_bytes, self.most_bytes // part) if self.most_bytes else most_bytes
