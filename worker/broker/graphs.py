"""Workflows in Redis: start one, look it up, cancel it, let it go on, read the values of its nodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from redis.asyncio import Redis

from worker import wire
from worker.broker import keys, scripts
from worker.broker.budget import Budget
from worker.broker.pool import unavailable_when_away

CANCELLED_KEPT_MS = 3_600_000


class NodeRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What never changes of a node. `members` makes it a join."""

    job_id: str | None = msgspec.field(default=None, name="i")
    job: str | None = msgspec.field(default=None, name="f")
    queue_key: str | None = msgspec.field(default=None, name="q")
    delay_ms: int | None = msgspec.field(default=None, name="d")
    due_ms: int | None = msgspec.field(default=None, name="u")
    members: tuple[int, ...] | None = msgspec.field(default=None, name="a")
    after: int | None = msgspec.field(default=None, name="b")
    then: tuple[int, ...] = msgspec.field(default=(), name="s")
    handlers: tuple[int, ...] = msgspec.field(default=(), name="e")
    is_handler: bool = msgspec.field(default=False, name="h")
    is_callback: bool = msgspec.field(default=False, name="k")


@dataclass(frozen=True, slots=True)
class NewNode:
    """A node to keep. `waits`: how many must end well first, -1 for a handler. A join has no payload."""

    record: NodeRecord
    waits: int
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class NewWorkflow:
    """A workflow to start. `last`: the node whose value is the result."""

    id: str
    nonce: str
    on_failure: str
    last: int
    must_end_well: int
    keep_ms: int
    nodes: Sequence[NewNode]


@dataclass(frozen=True, slots=True)
class FoundWorkflow:
    """A workflow as Redis has it: its hash, and per node its record and state."""

    fields: dict[str, str]
    nodes: dict[int, tuple[NodeRecord, str]]


_NODE = msgspec.json.Decoder(NodeRecord)


class Graphs:
    """Every method raises `BrokerUnavailable` when Redis cannot serve it."""

    def __init__(self, redis: Redis, budget: Budget) -> None:
        self._redis = redis
        self._budget = budget

    async def start(self, new: NewWorkflow) -> bool:
        """Start a workflow, once; False when its id is taken. Safe to repeat with the same nonce."""
        arguments: list[scripts.Argument] = [
            new.id,
            new.nonce,
            new.on_failure,
            new.last,
            new.must_end_well,
            new.keep_ms,
        ]
        for node in new.nodes:
            arguments += (wire.dumps(node.record), node.waits, node.payload)
        return bool(await self._run(scripts.START, *arguments))

    async def find(self, workflow_id: str) -> FoundWorkflow | None:
        """The workflow at this moment, if there is one."""
        _, flat, *nodes = await self._run(scripts.WORKFLOW_LOOKUP, workflow_id)
        if not flat:
            return None
        texts = [text.decode() for text in flat]
        found = {
            int(number): (_NODE.decode(record), state.decode())
            for number, record, state in zip(nodes[::3], nodes[1::3], nodes[2::3], strict=True)
        }
        return FoundWorkflow(dict(zip(texts[::2], texts[1::2], strict=True)), dict(sorted(found.items())))

    async def state(self, workflow_id: str) -> str | None:
        """Its state alone, if there is one."""
        answer: bytes | None = await self._run(scripts.WORKFLOW_STATE, workflow_id)
        return None if answer is None else answer.decode()

    async def cancel(self, workflow_id: str) -> str:
        """Cancel it; `cancelled`, `ended` or `unknown`."""
        answer: bytes = await self._run(scripts.WORKFLOW_CANCEL, workflow_id, CANCELLED_KEPT_MS)
        return answer.decode()

    async def retry(self, workflow_id: str) -> str:
        """Start anew what did not end well; its state now, or `unknown`."""
        answer: bytes = await self._run(scripts.WORKFLOW_RETRY, workflow_id)
        return answer.decode()

    async def value(self, workflow_id: str, node: int) -> bytes | None:
        """The value of a node as JSON, of a join as a list; None when it is not there (any more)."""
        values = await self._values(workflow_id, [node])
        return values[0]

    async def cause(self, workflow_id: str, handler: int) -> bytes | None:
        """The failure that started a handler, as JSON."""
        found = await self._fields(keys.CAUSES + workflow_id, [handler])
        return found[0]

    async def _values(self, workflow_id: str, nodes: Sequence[int]) -> list[bytes | None]:
        """Joins have no value of their own: theirs are put together from their members, level by level."""
        values = await self._fields(keys.VALUES + workflow_id, nodes)
        missing = [place for place, value in enumerate(values) if value is None]
        if not missing:
            return values
        records = await self._fields(keys.NODES + workflow_id, [nodes[place] for place in missing])
        joins = [None if record is None else _NODE.decode(record).members for record in records]
        below = [member for join in joins for member in join or ()]
        members = iter(await self._values(workflow_id, below) if below else ())
        for place, join in zip(missing, joins, strict=True):
            if join is not None:
                values[place] = _as_list([next(members) for _ in join])
        return values

    async def _fields(self, key: str, numbers: Sequence[int]) -> list[bytes | None]:
        with unavailable_when_away():
            found: list[bytes | None] = await self._redis.execute_command("HMGET", key, *numbers)
        return found

    async def _run(self, script: scripts.Script, *arguments: scripts.Argument) -> Any:
        with unavailable_when_away():
            return await scripts.run(self._redis, script, (), arguments)


def _as_list(values: Sequence[bytes | None]) -> bytes | None:
    """JSON values as a JSON list; None when one is not there."""
    there = [value for value in values if value is not None]
    return b"[" + b",".join(there) + b"]" if len(there) == len(values) else None
