"""What Redis says of a job that waits: read by `why.lua`, judged by `worker/client/diagnosis.py`."""

import msgspec


class LimitFacts(msgspec.Struct, frozen=True):
    """A limit of the job: its key, how many more may start, when there is room again, who holds it."""

    key: str
    room: float
    free_at: float
    holders: tuple[str, ...] = ()

    @property
    def is_rate(self) -> bool:
        """Whether it counts starts, not running jobs."""
        return self.key.startswith("r:")

    @property
    def text(self) -> str:
        """The limit as people say it."""
        _, most, period, counted = self.key.split(":", 3)
        return f"{most} in {float(period) / 1000:g} s of {counted}" if self.is_rate else f"{most} at once of {counted}"


class JobFacts(msgspec.Struct, frozen=True):
    """What the script found, at one moment. Times are Unix milliseconds. `together`: of a suspect, how many may run at
    once; 0 of others. `plain_arq`: a worker of plain arq says that it serves the queue."""

    now: float
    job: str | None = None
    queue: str = ""
    due: float = 0
    leased: bool = False
    paused: bool = False
    plain_arq: bool = False
    ahead: int = 0
    together: int = 0
    lost: int = 0
    limits: tuple[LimitFacts, ...] = ()
    workflow: str | None = None
    over: bool = False
    waits: int = 0
    steps: tuple[str, ...] = ()
