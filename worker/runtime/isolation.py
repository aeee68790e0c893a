"""Runs suspects apart from other jobs: those whose leases were lost twice in a row, which may be what ends workers.

They run in groups that are halved each time that their worker is lost, so that who is innocent ends well, and only a
job beside which nothing ran is judged. The halving is in `suspects.lua`.
"""

from enum import Enum
from typing import Any

from worker.core.config import Suspects
from worker.core.keys import SUSPECTS_TOGETHER
from worker.runtime.actions import Ask
from worker.runtime.events import Brought

PATIENCE = 30.0


class Turn(Enum):
    """What a worker may claim now."""

    OTHERS = "others"
    SUSPECTS = "suspects"
    NOTHING = "nothing"


class Isolation:
    """Decides whose turn it is in one worker, from what its claims say of suspects that wait.

    A worker that runs them itself takes a group when nothing else runs in it, and claims nothing beside it. If it is
    never idle, it lets its jobs run out once suspects have waited for 30 s. `is_quiet`: no suspects are known of, so it
    is the others' turn whatever runs.
    """

    def __init__(self, mode: Suspects, slots: int) -> None:
        self._mode = mode
        self._slots = slots
        self._has_group = False
        self._waiting = False
        self._since = 0.0
        self.is_quiet = mode is not Suspects.ONLY

    def turn(self, running: int, now: float) -> Turn:
        """Whose turn it is while so many jobs run in the worker."""
        if not running:
            self._has_group = False
            self._note()
        if self._mode is Suspects.ONLY:
            return Turn.NOTHING if running else Turn.SUSPECTS
        if self._has_group:
            return Turn.NOTHING
        if not self._waiting:
            return Turn.OTHERS
        if not running:
            return Turn.SUSPECTS
        return Turn.NOTHING if now - self._since >= PATIENCE else Turn.OTHERS

    def limit(self, room: int) -> int:
        """How many suspects to ask for at most: half of what the worker can run, 32 at most."""
        half = self._slots if self._mode is Suspects.ONLY else max(1, self._slots // 2)
        return min(room, half, SUSPECTS_TOGETHER)

    def heard(self, ask: Ask, brought: Brought[Any], now: float) -> bool:
        """Take in what a claim says, before its jobs begin; whether it leaves nothing for this worker to do."""
        if ask.suspects:
            self._has_group = bool(brought.jobs)
            self._waiting = False  # others have a turn first, and their claim tells anew
            self._note()
            return brought.is_empty and self._mode is Suspects.ONLY
        waiting = brought.suspects > 0 and self._mode is Suspects.HERE
        if waiting and not self._waiting:
            self._since = now
        self._waiting = waiting
        self._note()
        return brought.is_empty and not waiting

    def _note(self) -> None:
        self.is_quiet = not (self._has_group or self._waiting or self._mode is Suspects.ONLY)
