"""The deployment that is looked at."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.cli.check import Check
from worker.client import Client
from worker.definition.registry import Registry
from worker.settings import Settings


@dataclass(frozen=True, slots=True)
class Patient:
    """Settings, jobs, the project's folders of migrations, and a client of Redis.

    `is_release`: a release is about to start, so that its own workers are not there yet.
    """

    settings: Settings
    registry: Registry
    folders: Sequence[Path]
    client: Client
    is_release: bool

    def serious(self, what: str, finding: str) -> Check:
        """What is wrong in production, and may be so while somebody develops."""
        return Check.doubtful(what, finding) if self.settings.development else Check.wrong(what, finding)

    def of_workers(self, what: str, finding: str) -> Check:
        """What is wrong with the workers that live; those of a release may do better."""
        return Check.doubtful(what, finding) if self.is_release else Check.wrong(what, finding)
