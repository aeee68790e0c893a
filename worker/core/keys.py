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

BY_KEY = "key="  # prefix of the name of a queue whose sorted set has a key of the user's choice
DEFAULT = "default"
HEALTH_CHECK = ":health-check"  # suffix of a queue's key: arq's health check, while a plain arq worker of it lives
NO_QUEUES = (".", "..", "health-check")  # HTTP clients resolve the first two (RFC 3986, 5.2.4); arq keeps the third
MARK = "~"  # in ids that our own code makes; callers' ids must not hold it, so that nobody takes one of ours
REFUSED = "EMBARQ"  # prefix of a script's error when its input was wrong and it wrote nothing

# What is written without bound elsewhere is bounded here: streams, records of the past, messages nobody reads.
EVENTS_KEPT = 5_000  # entries, each with events of one script
EVENT_BYTES = 12_800  # of such an entry: 64 MB in all
RECORDS_KEPT = 200_000  # entries of the history that nobody has written yet
RECORD_BYTES = 1_048_576  # of such an entry, where it holds more than one job
RECORDS_MOST = 268_435_456  # bytes of them all, where the writer says nothing else
# The score of a job that waits for a limit, or to run isolated: later than any date, so never due, and below 2^53, so
# that the double of a sorted set's score holds it exactly.
PARKED_SCORE = 9_000_000_000_000_000
SUSPECTS_TOGETHER = 32  # of jobs that lost two leases in a row: so many at most run in a process that runs no others
STARTS_APART_MS = 60_000  # workers that start this close together count as one start for schedules: a deploy's dynos
TRIES_KEPT = 20
MESSAGES_KEPT = 10_000  # to one worker
TOMBSTONE_MS = 60_000  # how long a dropped result leaves a trace: a repeated enqueue or ack must still find it
ENDED_KEPT_MS = 30 * 86_400_000  # of a durable job: longer than any outage of its database that it should survive
DAMAGED_KEPT_MS = 86_400_000
CLAIMED_KEPT_MS = 86_400_000  # what a claim brought, until its worker has acknowledged the answer
DAMAGED_SHOWN = 100
PUT_OFF_MS = 10_000  # a job that the claim script fails on waits this long, so that those behind it are taken

# What exceeds these is refused or cut, whoever wrote it. Anybody may write to Redis.
ID_BYTES = 255  # an id is a primary key of the history, and part of a key in Redis
UNIQUE_BYTES = 512
LIMIT_BYTES = 512
LIMITS_A_JOB = 20
CLAIM_BYTES = 8 * 1_048_576  # of payloads after which a claim takes no more
PAYLOAD_BYTES = 64 * 1_048_576
MOST_TRIES = 1_000_000
MOST_MS = wire.END_OF_TIME_MS  # the end of the year 9999
LONGEST_LEASE_MS = 3_600_000
QUEUES_ASKED = 64  # queues that a claim names; above it, the script looks for those that hold something

LUA_CONSTANTS = {
    name: value
    for name, value in list(globals().items())
    if name.isupper() and isinstance(value, str | int) and not name.startswith("_")
}


_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_LEVELS = {Priority.HIGH.value: Priority.HIGH, Priority.LOW.value: Priority.LOW}


def queue_key(name: str, priority: Priority = Priority.NORMAL) -> str:
    """The sorted set of a queue's level. Normal is arq's own: `arq:queue`, `arq:queue:emails`. A queue with any other
    key, as plain arq may have it, is named `key=` and that key: `key=sky:default`."""
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
    """What is wrong with a name that begins with `key=`, if anything."""
    key = name.removeprefix(BY_KEY)
    canonical, priority = parse_queue_key(key)
    if key.startswith((TOKEN, JOB, LEASE, TRIES, RESULT)) or key == ABORT or key.endswith(HEALTH_CHECK):
        return f"must not be {key!r}, under which arq or Embarq keeps something else"
    if priority is not Priority.NORMAL:
        return f"must be a queue without its level, and {key!r} ends with one"
    if canonical != name:
        return f"must be {canonical!r}, the name of that queue"
    return None


def wake_key(queue: str) -> str:
    """The list on which idle workers of a queue wait for a token."""
    return WAKE + queue_key(queue)
