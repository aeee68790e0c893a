"""The deployment that is checked."""

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

    `is_release`: a release is about to start, so its own workers do not run yet.
    """

    settings: Settings
    registry: Registry
    folders: Sequence[Path]
    client: Client
    is_release: bool

    def serious(self, what: str, finding: str) -> Check:
        """A finding that is an error in production, and a warning in development."""
        return Check.doubtful(what, finding) if self.settings.development else Check.wrong(what, finding)

    def of_workers(self, what: str, finding: str) -> Check:
        """A finding about the live workers: an error, but a warning before a release, which may mend it."""
        return Check.doubtful(what, finding) if self.is_release else Check.wrong(what, finding)
