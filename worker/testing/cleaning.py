"""After a test: removes all that it created in Redis, and nothing else."""

from collections.abc import Iterable

from worker.broker.workflow_records import NewWorkflow
from worker.core import keys
from worker.core.job import Priority
from worker.testing.client import TaggedClient
from worker.testing.tag import read_payload

OF_A_JOB = (
    *(keys.JOB, keys.LEASE, keys.TRIES, keys.RESULT, keys.RUN, keys.PROGRESS),
    *(keys.HISTORY, keys.TRACE, keys.ENDED),
)
OF_A_WORKFLOW = (
    *(keys.WORKFLOW, keys.NODES, keys.CALLS, keys.WAITS, keys.ENDS, keys.VALUES),
    *(keys.CAUSES, keys.AGAIN),
)
OF_A_LIMIT = (keys.RATE, keys.HOLDERS, keys.PARKED)
SLICE = 1000  # keys in one call


async def clean(client: TaggedClient) -> None:
    """Delete what the client's jobs and workflows have left, and the queues that it used."""
    queues = {keys.queue_key(queue) for queue in client.named}
    names = list(client.notes)
    limits: set[str] = set()
    for made in client.made:
        parts = _of_workflow(made) if isinstance(made, NewWorkflow) else [(made.id, made.queue_key, made.payload)]
        if isinstance(made, NewWorkflow):
            names += [prefix + made.id for prefix in OF_A_WORKFLOW]
        elif made.unique:
            names.append(keys.UNIQUE + made.unique.split(":", 2)[2])
        for job_id, queue, payload in parts:
            names += [prefix + job_id for prefix in OF_A_JOB]
            queues.add(queue)
            limits.update(read_payload(payload).options.limits)
    names += [prefix + limit for limit in limits for prefix in OF_A_LIMIT]
    levels = _levels(queues)
    names += [*levels, *(keys.WAKE + level for level in levels)]
    for start in range(0, len(names), SLICE):
        await client.redis.unlink(*names[start : start + SLICE])
    if limits:
        await client.redis.zrem(keys.LIMITS, *limits)
    if levels:
        for known in (keys.QUEUES, keys.ACTIVE, keys.PAUSED):
            await client.redis.execute_command("SREM", known, *levels)
        await client.redis.zrem(keys.QUEUES_SEEN, *levels)


def _of_workflow(made: NewWorkflow) -> Iterable[tuple[str, str, bytes]]:
    for node in made.nodes:
        if node.record.job_id is not None and node.record.queue_key is not None:
            yield node.record.job_id, node.record.queue_key, node.payload


def _levels(queues: Iterable[str]) -> list[str]:
    names = {keys.parse_queue_key(queue)[0] for queue in queues}
    return [keys.queue_key(name, priority) for name in names for priority in Priority]
