"""A workflow to those who look it up, and how it is read from what Redis has."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from worker import wire
from worker.broker.graphs import FoundWorkflow, NodeRecord
from worker.job import JobError, from_ms, read_error

# What a failed step does to the rest: fails the workflow, or passes its error on as a value.
OnFailure = Literal["stop", "continue"]


@dataclass(frozen=True, slots=True)
class Step:
    """A node of a workflow as one look-up saw it; a join has neither job nor id.

    state: a final state of a job, or `running`, `queued`, `waiting`, or `skipped`. then: the nodes that follow it.
    """

    node: int
    state: str
    job_id: str | None
    job: str | None
    then: tuple[int, ...]


class WorkflowState(StrEnum):
    """Where a workflow is; only `RUNNING` is not final, and a retry leads back to it."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether it has come to an end."""
        return self is not WorkflowState.RUNNING


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow as one look-up saw it. `result` is there once it succeeded, `failed` names the node that ended it."""

    id: str
    state: WorkflowState
    on_failure: OnFailure
    created_at: datetime
    finished_at: datetime | None
    steps: tuple[Step, ...]
    failed: int | None = None
    result: Any = None
    error: JobError | None = None


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
