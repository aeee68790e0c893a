"""What clients send and get, as pydantic models and plain records."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from worker.core.job import Job, JobAttempt, JobError, Progress, State
from worker.core.options import Moment, problems
from worker.core.wire import LONGEST_NAME
from worker.history.reader import MOST, Query
from worker.http.errors import InvalidBody

BASE = "/api/v1"


class Body(BaseModel):
    """A request's body: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def read(cls, body: Any) -> Self:
        """Check a decoded body.

        Raises:
            InvalidBody: with a pointer to each field that is wrong.
        """
        try:
            return cls.model_validate(body)
        except ValidationError as error:
            raise InvalidBody(problems(error)) from error


class NewJobBody(Body):
    """`POST /jobs`."""

    job: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
    args: dict[str, Any] = {}
    options: dict[str, Any] = {}


# Text in Postgres cannot hold NUL.
Words = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]


class HistoryQuery(Body):
    """The parameters of `GET /jobs`."""

    state: State | None = None
    job: Words | None = None
    queue: Words | None = None
    tag: Words | None = None
    text: Words | None = None
    since: Moment | None = None
    until: Moment | None = None
    cursor: Annotated[str, Field(max_length=5000)] | None = None
    limit: Annotated[int, Field(ge=1, le=MOST)] = 50

    def query(self) -> Query:
        """The same for the history."""
        return Query(
            state=self.state,
            job=self.job,
            queue=self.queue,
            tag=self.tag,
            words=self.text,
            since=self.since,
            until=self.until,
            after=self.cursor,
            limit=self.limit,
        )


def job_record(job: Job) -> dict[str, Any]:
    """A job as clients see it."""
    return {
        "id": job.id,
        "job": job.name,
        "queue": job.queue,
        "priority": job.priority,
        "state": job.state,
        "args": job.args,
        "progress": progress_record(job.progress),
        "result": job.result,
        "error": error_record(job.error),
        "try": job.tries,
        "max_tries": job.max_tries,
        "enqueued_at": job.enqueued_at,
        "scheduled_for": job.scheduled_for,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "worker": job.worker,
        "workflow_id": job.workflow_id,
        "tags": job.tags,
        "tries": [attempt_record(each) for each in job.attempts],
        "links": links(job.id),
    }


def attempt_record(each: JobAttempt) -> dict[str, Any]:
    """A try as clients see it."""
    return {
        "try": each.number,
        "outcome": each.outcome,
        "started_at": each.started_at,
        "finished_at": each.finished_at,
        "worker": each.worker,
        "error": error_record(each.error),
    }


def progress_record(progress: Progress | None) -> dict[str, Any] | None:
    """Progress as clients see it."""
    if progress is None:
        return None
    return {
        "current": progress.current,
        "total": progress.total,
        "percent": progress.percent,
        "message": progress.message,
        "meta": progress.meta,
    }


def error_record(error: JobError | None) -> dict[str, Any] | None:
    """An error as clients see it."""
    return None if error is None else {"type": error.type, "message": error.message, "traceback": error.traceback}


def links(job_id: str) -> dict[str, str]:
    """Where the rest of a job is."""
    own = f"{BASE}/jobs/{job_id}"
    return {"self": own, "progress": f"{own}/progress", "result": f"{own}/result", "cancel": f"{own}/cancel"}
