"""A worker's configuration as plain data: the command line fills it from settings, tests set what they need."""

from dataclasses import dataclass
from enum import StrEnum

from worker.core.wire import LARGEST


class Suspects(StrEnum):
    """Who runs jobs that lost their leases twice in a row, which must be isolated (`worker.runtime.isolation`).

    HERE: this worker, taking turns with other jobs. ELSEWHERE: workers that its process starts for them. ONLY: this
    worker, which takes nothing else.
    """

    HERE = "here"
    ELSEWHERE = "elsewhere"
    ONLY = "only"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """Times are seconds.

    queues: served in this order; ("*",) serves all known queues, by name.
    concurrency: jobs at once. lease: how long a silent worker keeps its jobs.
    poll: how often queues are polled for jobs of plain arq clients. grace: what running jobs get at a stop.
    unknown_job_deadline: how long a job that this worker does not know waits for one that does.
    burst: end when nothing is left in the queues but jobs that this worker does not know. schedules: whether it also
    fires schedules, which a burst never does.
    starts: whether its start counts for schedules with `run_at_startup`; False where a supervisor restarts it.
    max_tries, soft_timeout, timeout, result_ttl: for jobs that declare none. max_result: bytes of a result as JSON.
    recycle_jobs, recycle_megabytes: after so many jobs, or above so much resident memory, the worker stops as on a
    signal, so that its supervisor starts another.
    event_bytes: what the stream of events may take in Redis.
    outage_patience: how long a job that fails for want of a resource (the database) is requeued without using up a try.
    leases_lost_limit: leases lost in a row that end a job as poisoned, the last one while no other ran beside it.
    suspects: who runs jobs that may be poisoned. cancel_grace: what a cancelled job gets to end.
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
