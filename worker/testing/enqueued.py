"""The jobs that a test's code has queued, and how to look for one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from worker.broker.queue_store import NewJob
from worker.broker.workflow_records import NewWorkflow
from worker.core import keys
from worker.core.errors import InvalidArguments
from worker.core.job import Priority, from_ms
from worker.definition.definitions import JobDefinition
from worker.testing.tag import read_payload


@dataclass(frozen=True, slots=True)
class Enqueued:
    """A job that was queued, with its arguments as JSON values.

    delay: seconds, 0 if it may start at once. run_at: if a time was given instead. All jobs of a workflow count as
    queued when it starts, with the arguments that are known then.
    """

    id: str
    job: str
    arguments: Mapping[str, Any]
    queue: str
    priority: Priority = Priority.NORMAL
    delay: float = 0.0
    run_at: datetime | None = None
    tags: tuple[str, ...] = ()
    workflow_id: str | None = None

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"{self.job}({arguments}) in queue {self.queue!r}"


def of_job(new: NewJob) -> Enqueued:
    """The job that one call queued."""
    return _read(new.id, new.queue_key, new.payload, new.delay_ms, new.due_ms)


def of_workflow(new: NewWorkflow) -> list[Enqueued]:
    """The jobs of a workflow."""
    found = []
    for node in new.nodes:
        record = node.record
        if record.job_id is not None and record.queue_key is not None:
            found.append(_read(record.job_id, record.queue_key, node.payload, record.delay_ms or 0, record.due_ms))
    return found


def _read(job_id: str, queue_key: str, data: bytes, delay_ms: int, due_ms: int | None) -> Enqueued:
    payload = read_payload(data)
    queue, priority = keys.parse_queue_key(queue_key)
    return Enqueued(
        id=job_id,
        job=payload.job,
        arguments=payload.kwargs,
        queue=queue,
        priority=priority,
        delay=delay_ms / 1000,
        run_at=None if due_ms is None else from_ms(due_ms),
        tags=payload.options.tags,
        workflow_id=payload.options.workflow,
    )


def matching(found: Iterable[Enqueued], job: JobDefinition[..., Any], arguments: Mapping[str, Any]) -> list[Enqueued]:
    """Those of the job whose arguments are as given; arguments that are not given may be anything.

    Raises:
        TypeError: the job takes no argument of that name.
    """
    unknown = [name for name in arguments if name not in job.schema.names]
    if unknown:
        takes = ", ".join(job.schema.names) or "none"
        raise TypeError(f"an argument of job {job.name!r} must be one of: {takes}; not {unknown[0]!r}")
    return [each for each in found if each.job == job.name and _fits(each, job, arguments)]


def _fits(enqueued: Enqueued, job: JobDefinition[..., Any], wanted: Mapping[str, Any]) -> bool:
    """Whether each argument equals the wanted one, as its JSON value or as the job gets it."""
    sent = enqueued.arguments
    try:
        taken: Mapping[str, Any] = job.schema.validate(sent)
    except InvalidArguments:  # a step of a workflow, one argument of which is the result of the step before
        taken = sent
    return all(name in sent and (value == sent[name] or value == taken[name]) for name, value in wanted.items())
