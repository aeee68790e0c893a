"""A workflow to those who look it up."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from worker.core.job import JobError

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
