"""The names of all keys in Redis, in one place: arq's, which are a promise, and our own under `embarq:`."""

import re
from functools import lru_cache

from worker.core import wire
from worker.core.job import Priority

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

BY_KEY = "key="  # how the name of a queue begins whose sorted set is not called as ours are
DEFAULT = "default"
HEALTH_CHECK = ":health-check"  # behind the key of a queue, while a plain arq worker of it lives
NO_QUEUES = (".", "..", "health-check")  # folders to clients of HTTP; and arq's own key
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


_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_LEVELS = {Priority.HIGH.value: Priority.HIGH, Priority.LOW.value: Priority.LOW}


def queue_key(name: str, priority: Priority = Priority.NORMAL) -> str:
    """The sorted set of a queue's level. Normal is arq's own: `arq:queue`, `arq:queue:emails`. A queue whose key is
    another one, as plain arq may have it, is `key=` and that key: `key=sky:default`."""
    named = QUEUE if name == DEFAULT else f"{QUEUE}:{name}"
    key = name.removeprefix(BY_KEY) if name.startswith(BY_KEY) else named
    return key if priority is Priority.NORMAL else f"{key}!{priority}"


@lru_cache(maxsize=10_000)
def parse_queue_key(key: str) -> tuple[str, Priority]:
    """Queue name and level of a sorted set, whatever its key: the one name that `queue_key` makes this key of."""
    base, mark, level = key.rpartition("!")
    priority = _LEVELS.get(level, Priority.NORMAL) if mark else Priority.NORMAL
    if priority is Priority.NORMAL:
        base = key
    if base == QUEUE:
        return DEFAULT, priority
    name = base.removeprefix(f"{QUEUE}:")
    is_ours = name != base and is_plain_name(name) and name != DEFAULT
    return (name if is_ours else BY_KEY + base), priority


def is_plain_name(name: str) -> bool:
    """Whether this may be a queue's name without its key."""
    return _PLAIN_NAME.fullmatch(name) is not None and name not in NO_QUEUES


def wrong_with_key(name: str) -> str | None:
    """Why a name that begins with `key=` names no queue, if it does not."""
    key = name.removeprefix(BY_KEY)
    canonical, priority = parse_queue_key(key)
    if key.startswith((TOKEN, JOB, LEASE, TRIES, RESULT)) or key == ABORT or key.endswith(HEALTH_CHECK):
        return f"{key!r} is a key that arq or Embarq keeps something else under"
    if priority is not Priority.NORMAL:
        return f"{key!r} is a level of a queue: name the queue without it"
    if canonical != name:
        return f"write {canonical!r}, the name of that queue"
    return None


def wake_key(queue: str) -> str:
    """The list on which idle workers of a queue wait for a token."""
    return WAKE + queue_key(queue)
