"""Runs suspects apart from other jobs: those whose leases were lost twice in a row, which may be what ends workers.

They run in groups that are halved each time that their worker is lost, so that who is innocent ends well, and only a
job beside which nothing ran is judged. The halving is in `suspects.lua`.
"""

import time
from collections.abc import Callable
from enum import Enum

from worker.broker.exchange import Claim, ClaimRequest
from worker.core.config import Suspects, WorkerConfig
from worker.core.keys import SUSPECTS_TOGETHER

PATIENCE = 30.0


class Turn(Enum):
    """What a worker may claim now."""

    OTHERS = "others"
    SUSPECTS = "suspects"
    NOTHING = "nothing"


class Isolation:
    """Decides whose turn it is in one worker, from what its claims say of suspects that wait.

    A worker that runs them itself takes a group when nothing else runs in it, and claims nothing beside it. If it is
    never idle, it lets its jobs run out once suspects have waited for 30 s.
    """

    def __init__(
        self, config: WorkerConfig, running: Callable[[], int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`running`: how many jobs run in the worker."""
        self._mode = config.suspects
        self._most = config.concurrency
        self._running = running
        self._clock = clock
        self._has_group = False
        self._waiting = False
        self._since = 0.0

    def turn(self) -> Turn:
        """Whose turn it is."""
        idle = self._running() == 0
        if idle:
            self._has_group = False
        if self._mode is Suspects.ONLY:
            return Turn.SUSPECTS if idle else Turn.NOTHING
        if self._has_group:
            return Turn.NOTHING
        if not self._waiting:
            return Turn.OTHERS
        if idle:
            return Turn.SUSPECTS
        return Turn.NOTHING if self._clock() - self._since >= PATIENCE else Turn.OTHERS

    def limit(self, room: int) -> int:
        """How many suspects to ask for at most: half of what the worker can run, 32 at most."""
        half = self._most if self._mode is Suspects.ONLY else max(1, self._most // 2)
        return min(room, half, SUSPECTS_TOGETHER)

    def heard(self, request: ClaimRequest, claim: Claim) -> bool:
        """Take in what a claim says, before its jobs start; whether it leaves nothing for this worker to do."""
        if request.suspects:
            self._has_group = bool(claim.jobs)
            self._waiting = False  # others have a turn first, and their claim tells anew
            return claim.is_empty and self._mode is Suspects.ONLY
        waiting = claim.suspects > 0 and self._mode is Suspects.HERE
        if waiting and not self._waiting:
            self._since = self._clock()
        self._waiting = waiting
        return claim.is_empty and not waiting
