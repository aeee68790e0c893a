"""Workflows in Redis: start one, look it up, cancel it, resume it, read the values of its nodes."""

import asyncio
import contextlib
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from worker.broker import scripts
from worker.broker.availability import unavailable_when_away
from worker.broker.budget import Budget
from worker.broker.workflow_records import FoundWorkflow, NewNode, NewWorkflow, NodeRecord
from worker.core import keys, wire
from worker.core.errors import WorkflowDamaged

CANCELLED_KEPT_MS = 3_600_000
SLICE = 500  # nodes in one call
SLICE_BYTES = 500_000
GO_ON_INTERVAL = 2.0  # seconds after which any worker takes over from one that died while it started steps
TAKEN, UNFINISHED, BEGIN_ANEW = 0, 2, -1  # answers of the script that starts


_NODE = msgspec.json.Decoder(NodeRecord)


# What reading a record raises when somebody else wrote it; of Redis' errors only those that mean the same.
_UNREADABLE = (msgspec.MsgspecError, ValueError, KeyError, TypeError, OverflowError, RecursionError)
_DAMAGE = ("WRONGTYPE", "user_script", "not an integer")


@contextlib.contextmanager
def undamaged(workflow_id: str) -> Iterator[None]:
    """Turn the errors that a damaged record causes into `WorkflowDamaged`."""
    try:
        yield
    except ResponseError as error:
        if not any(mark in str(error) for mark in _DAMAGE):
            raise
        raise WorkflowDamaged(workflow_id, str(error).partition(" script:")[0]) from error
    except _UNREADABLE as error:
        raise WorkflowDamaged(workflow_id, error) from error


class WorkflowStore:
    """Every method raises `BrokerUnavailable` when Redis cannot serve it, and those about one workflow
    `WorkflowDamaged` when somebody else has written under its keys."""

    def __init__(self, redis: Redis, budget: Budget) -> None:
        self._redis = redis
        self._budget = budget
        self._name = uuid.uuid4().hex
        self.unfinished = asyncio.Event()

    async def start(self, new: NewWorkflow) -> bool:
        """Start a workflow, once; False when its id is taken. Safe to repeat with the same request id."""
        slices = list(_slices(new.nodes))
        place = answer = 0
        while place < len(slices):
            first, nodes = slices[place]
            answer = await self._of(new.id, scripts.START, *_start_arguments(new, first, nodes))
            if answer == TAKEN:
                return False
            place = 0 if answer == BEGIN_ANEW else place + 1
        if answer == UNFINISHED:
            await self.go_on()
        return True

    async def go_on(self) -> None:
        """Do what scripts deferred of large workflows, a piece a call, unless another process is at it."""
        while await self._run(scripts.WORKFLOW_GO_ON, self._name) > 0:
            pass

    async def go_on_when_told(self) -> None:
        """Wait until `unfinished` is set, at most two seconds, in case another process died over it; then `go_on`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GO_ON_INTERVAL):
                await self.unfinished.wait()
        self.unfinished.clear()
        await self.go_on()

    async def find(self, workflow_id: str) -> FoundWorkflow | None:
        """The workflow as it is, if there is one. Of a large one, each slice is seen a moment after the one before."""
        following = 0
        nodes: dict[int, tuple[NodeRecord, str]] = {}
        while following >= 0:
            following, flat, *slice_ = await self._of(workflow_id, scripts.WORKFLOW_LOOKUP, workflow_id, following)
            if not flat:
                return None
            for record, state in zip(slice_[::2], slice_[1::2], strict=True):
                nodes[len(nodes)] = (_NODE.decode(record), state.decode())
        texts = [text.decode() for text in flat]
        return FoundWorkflow(dict(zip(texts[::2], texts[1::2], strict=True)), nodes)

    async def state(self, workflow_id: str) -> str | None:
        """Its state alone, if there is one."""
        with undamaged(workflow_id):
            answer: bytes | None = await self._run(scripts.WORKFLOW_STATE, workflow_id)
            return None if answer is None else answer.decode()

    async def cancel(self, workflow_id: str) -> str:
        """Cancel it; `cancelled`, `ended` or `unknown`. Repeated, it cancels what still waits."""
        with undamaged(workflow_id):
            first = await self._budget.ask(
                lambda: self._ask(scripts.WORKFLOW_CANCEL, workflow_id, CANCELLED_KEPT_MS, 0)
            )
        answer: bytes = first[0]
        following: int = first[1]
        while following >= 0:
            _, following = await self._of(
                workflow_id, scripts.WORKFLOW_CANCEL, workflow_id, CANCELLED_KEPT_MS, following
            )
        return answer.decode()

    async def retry(self, workflow_id: str) -> str:
        """Restart what did not succeed; its state now, or `unknown`. Safe to repeat."""
        answer, following = b"", 0
        while following >= 0:
            answer, following = await self._of(workflow_id, scripts.WORKFLOW_RETRY, workflow_id, following)
        await self.go_on()
        return answer.decode()

    async def value(self, workflow_id: str, node: int) -> bytes | None:
        """The value of a node as JSON, of a join as a list; None when it is not there (any more)."""
        with undamaged(workflow_id):
            values = await self._values(workflow_id, [node])
        return values[0]

    async def cause(self, workflow_id: str, handler: int) -> bytes | None:
        """The failure that started a handler, as JSON."""
        with undamaged(workflow_id):
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
        found: list[bytes | None] = []
        for start in range(0, len(numbers), SLICE):
            with unavailable_when_away():
                found += await self._redis.execute_command("HMGET", key, *numbers[start : start + SLICE])
        return found

    async def _of(self, workflow_id: str, script: scripts.Script, *arguments: scripts.Argument) -> Any:
        """Run a script about one workflow."""
        with undamaged(workflow_id):
            return await self._run(script, *arguments)

    async def _run(self, script: scripts.Script, *arguments: scripts.Argument) -> Any:
        """Run a script that is safe to repeat."""
        return await self._budget.persist(lambda: self._ask(script, *arguments))

    async def _ask(self, script: scripts.Script, *arguments: scripts.Argument) -> Any:
        with unavailable_when_away():
            return await scripts.run(self._redis, script, (), arguments)


def _slices(nodes: Sequence[NewNode]) -> Iterator[tuple[int, Sequence[NewNode]]]:
    """Nodes by slices that one call may keep, each with the number of its first one."""
    first = size = 0
    for number, node in enumerate(nodes):
        if number - first == SLICE or size > SLICE_BYTES:
            yield first, nodes[first:number]
            first, size = number, 0
        size += len(node.payload)
    yield first, nodes[first:]


def _start_arguments(new: NewWorkflow, first: int, nodes: Sequence[NewNode]) -> list[scripts.Argument]:
    arguments: list[scripts.Argument] = [new.id, new.request_id, new.on_failure, new.last, new.required, new.keep_ms]
    arguments += (first, len(new.nodes))
    for node in nodes:
        arguments += (wire.dumps(node.record), node.waits, node.payload)
    return arguments


def _as_list(values: Sequence[bytes | None]) -> bytes | None:
    """JSON values as a JSON list; None when one is not there."""
    there = [value for value in values if value is not None]
    return b"[" + b",".join(there) + b"]" if len(there) == len(values) else None
