"""Keys that all share, of another type: what reads them beside the scripts goes on."""

import pytest
from redis.asyncio import Redis

from tests.support import Kit
from worker.broker.suspects import SuspectQueues
from worker.core import keys
from worker.history.stream import RecordStream, backlog
from worker.history.writer import MOST_BYTES


async def put_another_type(redis: Redis, key: str) -> None:
    await redis.delete(key)
    await redis.execute_command("XADD", key, "*", b"\xff", b"\xff")


async def test_counters_of_another_type_do_not_stop_the_history(kit: Kit) -> None:
    for key in (keys.RECORDS_DROPPED, keys.RECORDS_LEFT_OUT, keys.RECORDING):
        await put_another_type(kit.client.redis, key)
    await RecordStream(kit.client.connections, "writer", MOST_BYTES).announce()
    counted = await backlog(kit.client.redis)
    assert (counted.dropped, counted.left_out) == (0, 0)
    await kit.client.redis.delete(keys.RECORDS_DROPPED, keys.RECORDS_LEFT_OUT)


async def test_schedules_of_another_type_are_none(kit: Kit) -> None:
    await put_another_type(kit.client.redis, keys.SCHEDULES)
    assert await kit.client.schedules.count() == 0
    await kit.client.redis.delete(keys.SCHEDULES)


@pytest.mark.parametrize("member", [b"\xff", b"arq:queue"])
async def test_suspects_that_cannot_be_are_none(kit: Kit, member: bytes) -> None:
    suspects = SuspectQueues(kit.client.redis)
    await kit.client.redis.execute_command("SADD", keys.SUSPECTS, member)
    await put_another_type(kit.client.redis, keys.SUSPECTS_IN + "arq:queue")
    assert await suspects.groups({"default"}) == {}
    await put_another_type(kit.client.redis, keys.SUSPECTS)
    assert await suspects.groups(None) == {}
    await kit.client.redis.delete(keys.SUSPECTS, keys.SUSPECTS_IN + "arq:queue")
