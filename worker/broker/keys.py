"""The names of all keys in Redis, in one place: arq's, which are a promise, and our own under `embarq:`."""

from functools import lru_cache

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
UNIQUE = "embarq:unique:"
WORKFLOW = "embarq:workflow:"
NODES = "embarq:nodes:"
CALLS = "embarq:calls:"
WAITS = "embarq:waits:"
ENDS = "embarq:ends:"
VALUES = "embarq:values:"
CAUSES = "embarq:causes:"
AGAIN = "embarq:again:"
SCHEDULES = "embarq:schedules"
SCHEDULES_DUE = "embarq:schedules:due"
SCHEDULES_LAST = "embarq:schedules:last"
SCHEDULES_PAUSED = "embarq:schedules:paused"
WAKE = "embarq:wake:"
CONTROL = "embarq:control:"
DONE = "embarq:done:"
QUEUES = "embarq:queues"
EVENTS = "embarq:events"
RECORDS = "embarq:records"
RECORDING = "embarq:recording"
WORKER = "embarq:worker:"
WORKERS = "embarq:workers"
TOKEN = "embarq:"  # noqa: S105  # the start of every lease's value, not a secret

EVENTS_KEPT = 5_000  # entries, each with the events of one script
PARKED_SCORE = 9_000_000_000_000_000  # of a job that waits for a limit: never due
TRIES_KEPT = 20
RECORDS_KEPT = 200_000  # entries of the history that nobody has written yet
TOMBSTONE_MS = 60_000

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
