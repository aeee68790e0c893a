"""Workflows as Redis keeps them, and how one is read for those who look it up."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from worker.core import wire
from worker.core.job import from_ms, read_error
from worker.core.workflow import Step, Workflow, WorkflowState


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
    """A node to store. `waits`: how many must succeed first, -1 for a handler. A join has no payload."""

    record: NodeRecord
    waits: int
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class NewWorkflow:
    """A workflow to start. `last`: the node whose value is the result."""

    id: str
    request_id: str
    on_failure: str
    last: int
    required: int
    keep_ms: int
    nodes: Sequence[NewNode]


@dataclass(frozen=True, slots=True)
class FoundWorkflow:
    """A workflow as Redis has it: its hash, and per node its record and state."""

    fields: dict[str, str]
    nodes: dict[int, tuple[NodeRecord, str]]


def read_workflow(workflow_id: str, found: FoundWorkflow, value: bytes | None) -> Workflow:
    """`value`: of the last node where it succeeded, of the failed one where it failed."""
    fields = found.fields
    state = WorkflowState(fields["state"])
    told = None if value is None else wire.loads(value, object)
    error = told.get("error") if isinstance(told, dict) and state is WorkflowState.FAILED else None
    return Workflow(
        id=workflow_id,
        state=state,
        on_failure="continue" if fields["policy"] == "continue" else "stop",
        created_at=from_ms(int(fields["created"])),
        finished_at=from_ms(int(fields["finished"])) if "finished" in fields else None,
        steps=tuple(_step(number, record, at) for number, (record, at) in found.nodes.items()),
        failed=int(fields["failed"]) if "failed" in fields else None,
        result=told if state is WorkflowState.SUCCEEDED else None,
        error=read_error(error),
    )


def _step(number: int, record: NodeRecord, state: str) -> Step:
    return Step(number, state, record.job_id, record.job, record.then)
