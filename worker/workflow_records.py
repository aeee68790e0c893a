"""From what Redis has of a workflow to its record."""

from worker import wire
from worker.broker.graphs import FoundWorkflow, NodeRecord
from worker.job import JobError, from_ms
from worker.workflows import Step, Workflow, WorkflowState


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
        error=JobError(error["type"], error["message"], error.get("traceback")) if error else None,
    )


def _step(number: int, record: NodeRecord, state: str) -> Step:
    return Step(number, state, record.job_id, record.job, record.then)
