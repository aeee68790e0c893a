"""How a worker works, as plain data: the command line fills it from settings, tests from what they need."""

from dataclasses import dataclass
from enum import StrEnum

from worker.core.wire import LARGEST


class Suspects(StrEnum):
    """Who runs jobs that lost their leases twice in a row, which must be apart (`worker.runtime.isolation`).

    HERE: this worker, in turns with others. ELSEWHERE: workers that its process starts for them. ONLY: this one, which
    takes nothing else.
    """

    HERE = "here"
    ELSEWHERE = "elsewhere"
    ONLY = "only"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """Times are seconds.

    queues: served in this order; ("*",) serves all that are known, by name.
    concurrency: jobs at once. lease: how long a silent worker is believed.
    poll: how often jobs of plain arq clients are looked for. grace: what running jobs get at a stop.
    unknown_job_deadline: how long a job that this worker does not know waits for one that does.
    burst: end when nothing is left in the queues but jobs that this worker does not know. schedules: whether it also
    fires what is scheduled, which a burst never does.
    starts: whether its start is one to schedules that ask for a run then; none is where a supervisor starts it again.
    max_tries, soft_timeout, timeout, result_ttl: for jobs that declare none. max_result: bytes of a result as JSON.
    recycle_jobs, recycle_megabytes: after so many jobs, or above so much resident memory, the worker stops as if told
    to, for its supervisor to start another.
    event_bytes: what the stream of events may take in Redis.
    outage_patience: how long a job that ends for want of a resource (the database) is put back without using up a try.
    leases_lost_limit: leases lost in a row that end a job as poisoned, the last one while no other ran beside it.
    suspects: who runs jobs that may be such. cancel_grace: what a cancelled job gets to end.
    """

    queues: tuple[str, ...] = ("default",)
    concurrency: int = 100
    lease: float = 15.0
    poll: float = 0.5
    grace: float = 25.0
    unknown_job_deadline: float = 600.0
    burst: bool = False
    schedules: bool = True
    starts: bool = True
    max_tries: int = 5
    soft_timeout: float = 600.0
    timeout: float = 900.0
    result_ttl: float | None = 3600.0
    max_result: int = LARGEST
    recycle_jobs: int | None = None
    recycle_megabytes: int | None = None
    leases_lost_limit: int = 3
    suspects: Suspects = Suspects.HERE
    event_bytes: int = 64 * 1024 * 1024
    cancel_grace: float = 5.0
    outage_patience: float = 600.0

    @property
    def lease_ms(self) -> int:
        """The lease in milliseconds."""
        return int(self.lease * 1000)
