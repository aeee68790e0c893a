"""What a client has, and how it is closed."""

from redis.asyncio import Redis

from tests.support import eventually
from worker import Client

JOBS = {"enqueue", "enqueue_many", "find", "wait_for", "why", "cancel"}
WORKFLOWS = {"start", "workflow", "wait_for_workflow", "cancel_workflow", "retry_workflow"}
QUEUES = {"queues", "pause_queue", "resume_queue", "purge_queue", "workers", "schedules"}
LIFE = {"open", "aclose", "max_arguments", "outbox"}
BELOW = {"redis", "arq"}
PARTS = {"queue_store", "workflow_store", "inspector", "connections", "for_thread"}  # for the worker and the HTTP API


def names_of(client: Client) -> set[str]:
    return {name for name in dir(client) if not name.startswith("_")}


async def test_client_has_the_names_of_a_client_and_no_others(client: Client) -> None:
    assert names_of(client) == JOBS | WORKFLOWS | QUEUES | LIFE | BELOW | PARTS


async def test_commands_of_redis_are_behind_redis(client: Client, queue: str) -> None:
    assert type(client.redis) is Redis
    assert not isinstance(client, Redis)
    await client.redis.set(queue, "kept", ex=60)
    assert await client.redis.get(queue) == b"kept"


async def test_block_closes_the_connections_of_its_client(client: Client, redis_url: str) -> None:
    async def is_gone() -> bool:
        return number not in {each["id"] for each in await client.redis.client_list()}

    async with Client(redis_url) as own:
        number = str(await own.redis.client_id())
        assert not await is_gone()
    await eventually(is_gone)
