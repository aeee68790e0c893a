"""What happened to jobs, newest last, from the capped stream that the scripts write."""

from dataclasses import dataclass
from datetime import datetime

import msgspec
from redis.asyncio import Redis

from worker.broker.availability import unavailable_when_away
from worker.core import keys
from worker.core.job import Priority, from_ms


@dataclass(frozen=True, slots=True)
class Event:
    """One transition of a job. `name`: see `docs/state-machine.md`; `worker` is empty where none took part."""

    at: datetime
    name: str
    job_id: str
    queue: str
    priority: Priority
    worker: str
    try_number: int


_ENTRY = msgspec.json.Decoder(list[tuple[str, str, str, str, int]])


async def latest(redis: Redis, entries: int = 1000) -> list[Event]:
    """The events of the newest entries; a script writes one entry for all the jobs that it moved.

    Raises:
        BrokerUnavailable: Redis does not answer.
    """
    with unavailable_when_away():
        found = await redis.xrevrange(keys.EVENTS, count=entries)
    return [event for entry_id, fields in reversed(found) for event in decode(entry_id, fields)]


def decode(entry_id: bytes, fields: dict[bytes, bytes]) -> list[Event]:
    """The events of one entry of the stream; none of one that cannot be read."""
    at = from_ms(int(entry_id.partition(b"-")[0]))
    events: list[Event] = []
    try:
        entry = _ENTRY.decode(fields[b"e"])
    except (KeyError, UnicodeDecodeError, msgspec.DecodeError):
        return events
    for name, job_id, queue_key, worker, try_number in entry:
        queue, priority = keys.parse_queue_key(queue_key)
        events.append(Event(at, name, job_id, queue, priority, worker, try_number))
    return events
