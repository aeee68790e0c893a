"""From the wire's records to rows of the history, as JSON values."""

from typing import Any

from worker import wire
from worker.broker.keys import parse_queue_key
from worker.job import State, from_ms

LONGEST_WORDS = 2000


def state_of(result: wire.Result) -> State:
    """The final state; plain arq's results say only whether they are successes."""
    return State(result.state) if result.state else State.SUCCEEDED if result.success else State.FAILED


def job_row(result: wire.Result) -> dict[str, Any]:
    """A row of `embarq_jobs`. `words` is what a search looks through."""
    queue, priority = parse_queue_key(result.queue)
    error = result.notice if result.success else result.result
    args = {str(place): value for place, value in enumerate(result.args)} | result.kwargs
    message = str(error.get("message", "")) if isinstance(error, dict) else ""
    words = " ".join([result.id or "", result.job, wire.dumps(args).decode(), message])[:LONGEST_WORDS]
    return {
        "id": result.id,
        "enqueued_at": from_ms(result.enqueued_ms),
        "job": result.job,
        "queue": queue,
        "priority": priority,
        "state": state_of(result),
        "tries": result.tries,
        "max_tries": result.options.max_tries,
        "args": args,
        "result": result.result if result.success else None,
        "error": error,
        "tags": result.options.tags,
        "worker": result.worker,
        "workflow_id": result.options.workflow,
        "progress": result.progress,
        "started_at": from_ms(result.started_ms) if result.started_ms else None,
        "finished_at": from_ms(result.finished_ms),
        "words": words.replace("\x00", ""),
    }


def try_rows(result: wire.Result, past: list[wire.TryRecord]) -> list[dict[str, Any]]:
    """Rows of `embarq_tries`: the earlier tries, and the one that ended the job."""
    key = {"job_id": result.id, "enqueued_at": from_ms(result.enqueued_ms)}
    rows = [
        key
        | {
            "number": each.number,
            "outcome": each.outcome,
            "worker": each.worker,
            "started_at": from_ms(each.started_ms),
            "finished_at": None if each.finished_ms is None else from_ms(each.finished_ms),
            "error": each.error,
        }
        for each in past
    ]
    if result.started_ms:
        last = {
            "number": result.tries,
            "outcome": state_of(result),
            "worker": result.worker,
            "started_at": from_ms(result.started_ms),
            "finished_at": from_ms(result.finished_ms),
            "error": None if result.success else result.result,
        }
        rows.append(key | last)
    return rows
