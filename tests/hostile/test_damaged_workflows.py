"""What a stranger writes under a workflow's keys is told as damage, and harms no other workflow."""

import pytest

from tests.support import Kit
from worker import group
from worker.core import keys
from worker.core.errors import WorkflowDamaged
from worker.core.workflow import WorkflowState
from worker.core.workflow_graph import Group

KINDS = (keys.WORKFLOW, keys.NODES, keys.CALLS, keys.WAITS, keys.ENDS, keys.VALUES, keys.CAUSES, keys.AGAIN)


@pytest.fixture
def flow(kit: Kit) -> Group:
    @kit.registry.job(queue=kit.queue)
    async def member(value: int) -> int:
        return value

    return group(member.s(1), member.s(2))


@pytest.mark.parametrize("kind", [keys.WORKFLOW, keys.NODES])
async def test_another_type_under_a_key_is_damage(kit: Kit, flow: Group, kind: str) -> None:
    handle = await kit.client.start(flow, {})
    await kit.client.redis.delete(kind + handle.id)
    await kit.client.redis.execute_command("RPUSH", kind + handle.id, "x")
    for ask in (kit.client.workflow, kit.client.cancel_workflow, kit.client.retry_workflow):
        with pytest.raises(WorkflowDamaged, match=handle.id):
            await ask(handle.id)


@pytest.mark.parametrize("record", [b"\xff", b"{", b"5", b'{"a":"x"}'])
async def test_a_record_that_cannot_be_read_is_damage(kit: Kit, flow: Group, record: bytes) -> None:
    handle = await kit.client.start(flow, {})
    await kit.client.redis.execute_command("HSET", keys.NODES + handle.id, "1", record)
    with pytest.raises(WorkflowDamaged, match=handle.id):
        await kit.client.workflow(handle.id)


@pytest.mark.parametrize("field", ["state", "created", "last"])
async def test_a_field_that_cannot_be_read_is_damage(kit: Kit, flow: Group, field: str) -> None:
    handle = await kit.client.start(flow, {})
    await kit.drain()
    await kit.client.redis.execute_command("HSET", keys.WORKFLOW + handle.id, field, b"\xff")
    with pytest.raises(WorkflowDamaged, match=handle.id):
        await kit.client.wait_for_workflow(handle.id, 1)


async def test_a_workflow_begins_without_what_a_stranger_left_under_its_id(kit: Kit, flow: Group) -> None:
    workflow_id = f"mine-{kit.queue}"
    for kind in KINDS:
        await kit.client.redis.execute_command("RPUSH", kind + workflow_id, "x")
    handle = await kit.client.start(flow, {"id": workflow_id})
    assert handle.created
    await kit.drain()
    found = await kit.client.workflow(workflow_id)
    assert (found.state, found.result) == (WorkflowState.SUCCEEDED, [1, 2])


@pytest.mark.parametrize("piece", [b"\xff", b"{}", b"[]", b'{"w":5}', b'{"w":"x","f":"y"}'])
async def test_a_piece_that_nobody_left_stops_no_other(kit: Kit, flow: Group, piece: bytes) -> None:
    await kit.client.redis.execute_command("RPUSH", keys.UNFINISHED, piece)
    await kit.client.workflow_store.go_on()
    handle = await kit.client.start(flow, {})
    await kit.drain()
    assert (await kit.client.workflow(handle.id)).state is WorkflowState.SUCCEEDED


async def test_why_tells_what_is_left_of_a_damaged_workflow(kit: Kit, flow: Group) -> None:
    handle = await kit.client.start(flow, {})
    await kit.client.redis.delete(keys.WAITS + handle.id)
    await kit.client.redis.execute_command("RPUSH", keys.WAITS + handle.id, "x")
    facts = await kit.client.inspector.why(f"{handle.id}~0")
    assert facts.now
