"""The names of all keys in Redis, in one place: arq's, which are a promise, and our own under `embarq:`."""

from functools import lru_cache

from worker import wire
from worker.job import Priority

QUEUE = "arq:queue"
JOB = "arq:job:"
LEASE = "arq:in-progress:"
TRIES = "arq:retry:"
RESULT = "arq:result:"
ABORT = "arq:abort"

RUN = "embarq:run:"
PROGRESS = "embarq:progress:"
HISTORY = "embarq:tries:"
ONCE = "embarq:once:"
RATE = "embarq:rate:"
HOLDERS = "embarq:holders:"
PARKED = "embarq:parked:"
LIMITS = "embarq:limits"
PAUSED = "embarq:paused"
SUSPECTS = "embarq:suspects"
SUSPECTS_IN = "embarq:suspects:"
SUSPECTED = "embarq:suspected"
ISOLATING = "embarq:isolating:"
UNIQUE = "embarq:unique:"
WORKFLOW = "embarq:workflow:"
NODES = "embarq:nodes:"
CALLS = "embarq:calls:"
WAITS = "embarq:waits:"
ENDS = "embarq:ends:"
VALUES = "embarq:values:"
CAUSES = "embarq:causes:"
AGAIN = "embarq:again:"
UNFINISHED = "embarq:unfinished"
UNFINISHED_HAND = "embarq:unfinished:hand"
SCHEDULES = "embarq:schedules"
SCHEDULES_DUE = "embarq:schedules:due"
SCHEDULES_LAST = "embarq:schedules:last"
SCHEDULES_PAUSED = "embarq:schedules:paused"
SCHEDULES_STARTED = "embarq:schedules:started"
WAKE = "embarq:wake:"
CONTROL = "embarq:control:"
DONE = "embarq:done:"
WAKE_ANY = "embarq:wake:*"
QUEUES = "embarq:queues"
ACTIVE = "embarq:queues:active"
QUEUES_SEEN = "embarq:queues:seen"
CLAIMED = "embarq:claimed:"
TRACE = "embarq:trace:"
ENDED = "embarq:ended:"
DAMAGED = "embarq:damaged:"
DAMAGED_KEYS = "embarq:damaged"
EVENTS = "embarq:events"
RECORDS = "embarq:records"
RECORDS_BYTES = "embarq:records:bytes"
RECORDS_DROPPED = "embarq:records:dropped"
RECORDS_LEFT_OUT = "embarq:records:left_out"
RECORDING = "embarq:recording"
WORKER = "embarq:worker:"
WORKERS = "embarq:workers"
TOKEN = "embarq:"  # noqa: S105  # the start of every lease's value, not a secret

MARK = "~"  # in ids that our own code makes; those of its callers may not hold it, so that nobody takes one of ours
REFUSED = "EMBARQ"  # how the answer of a script begins that was given something wrong, and wrote nothing

EVENTS_KEPT = 5_000  # entries, each with events of one script
EVENT_BYTES = 12_800  # of such an entry: 64 MB in all
RECORDS_KEPT = 200_000  # entries of the history that nobody has written yet
RECORD_BYTES = 1_048_576  # of such an entry, where it holds more than one job
RECORDS_MOST = 268_435_456  # bytes of them all, where the writer says nothing else
PARKED_SCORE = 9_000_000_000_000_000  # of a job that waits for a limit, or to run apart: never due
SUSPECTS_TOGETHER = 32  # of jobs that lost two leases in a row: so many at most run in a process that runs no others
STARTS_APART_MS = 60_000  # workers that start within so long of the first are one start to schedules
TRIES_KEPT = 20
MESSAGES_KEPT = 10_000  # to one worker
TOMBSTONE_MS = 60_000
ENDED_KEPT_MS = 30 * 86_400_000
DAMAGED_KEPT_MS = 86_400_000
CLAIMED_KEPT_MS = 86_400_000  # what a claim brought, until its worker has heard of it
DAMAGED_SHOWN = 100
PUT_OFF_MS = 10_000

# What is beyond these is refused or cut, whoever wrote it.
ID_BYTES = 255
UNIQUE_BYTES = 512
LIMIT_BYTES = 512
LIMITS_A_JOB = 20
CLAIM_BYTES = 8 * 1_048_576  # of payloads after which a claim takes no more
PAYLOAD_BYTES = 64 * 1_048_576
MOST_TRIES = 1_000_000
MOST_MS = wire.END_OF_TIME_MS  # the end of the year 9999
LONGEST_LEASE_MS = 3_600_000
QUEUES_ASKED = 64  # queues that one claim is given by name

LUA_CONSTANTS = {
    name: value
    for name, value in list(globals().items())
    if name.isupper() and isinstance(value, str | int) and not name.startswith("_")
}


def queue_key(name: str, priority: Priority = Priority.NORMAL) -> str:
    """The sorted set of a queue's level. Normal is arq's own: `arq:queue`, `arq:queue:emails`."""
    key = QUEUE if name == "default" else f"{QUEUE}:{name}"
    return key if priority is Priority.NORMAL else f"{key}!{priority}"


@lru_cache(maxsize=10_000)
def parse_queue_key(key: str) -> tuple[str, Priority]:
    """Queue name and level of a sorted set; a key of a plain arq queue outside our scheme is its own name."""
    base, _, level = key.partition("!")
    priority = Priority(level) if level in set(Priority) else Priority.NORMAL
    if base == QUEUE:
        return "default", priority
    return base.removeprefix(f"{QUEUE}:"), priority


def wake_key(queue: str) -> str:
    """The list on which idle workers of a queue wait for a token."""
    return WAKE + queue_key(queue)
