"""Posting jobs and looking them up."""

import hashlib
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from worker.core.calls import Call
from worker.core.errors import ArgumentProblem, JobNotFound
from worker.core.job import Job
from worker.history.reader import History, cursor_of
from worker.http.answers import fitting
from worker.http.budget import LONGEST_WAIT
from worker.http.errors import IdempotencyConflict, InvalidBody
from worker.http.flows import queues_in, read_options
from worker.http.json import JsonResponse, read_object
from worker.http.schemas import HistoryQuery, NewJobBody, error_record, job_record, links, progress_record
from worker.http.state import Shared, shared

POLL_AGAIN_SECONDS = 1
LONGEST_KEY = 255  # characters of an Idempotency-Key


async def create_job(request: Request) -> Response:
    """`POST /jobs`: 202 when it was queued, 200 when a job with this id, or this Idempotency-Key, exists.

    The header follows the IETF's draft "The Idempotency-Key HTTP Header Field".
    """
    body = NewJobBody.read(await read_object(request))
    here = shared(request)
    definition = here.registry.get(body.job)
    options = read_options(here.registry, body.job, body.options)
    key = request.headers.get("Idempotency-Key")
    digest = None if key is None else _digest(key)
    if digest is not None and "id" in options:
        clash = "must not be given with an Idempotency-Key, which makes the id"
        raise InvalidBody([ArgumentProblem(("options", "id"), clash)])
    await here.queues.check(body.job, queues_in(options))
    if digest is not None:
        options["id"] = f"key~{digest}"
    call = definition.call_with(body.args, options)
    if digest is not None and (former := await _former(here, digest, call)) is not None:
        return JsonResponse(job_record(former), 200, headers=_location(former.id))
    handle = await here.client.enqueue(call)
    if not handle.created:
        return await _existing(here, handle.id, call if key is not None else None)
    record = {
        "id": handle.id,
        "job": definition.name,
        "state": _first_state(options),
        "links": links(handle.id),
    }
    return JsonResponse(record, 202, headers=_location(handle.id) | {"Retry-After": str(POLL_AGAIN_SECONDS)})


def _digest(key: str) -> str:
    if not 0 < len(key) <= LONGEST_KEY:
        wrong = f"must have 1 to {LONGEST_KEY} characters, not {len(key)}"
        raise InvalidBody([ArgumentProblem(("Idempotency-Key",), wrong)])
    return hashlib.sha256(key.encode()).hexdigest()[:40]


async def _former(here: Shared, digest: str, call: Call[Any]) -> Job | None:
    """The same call under the id that an older release made of its key."""
    try:
        job = await here.client.find(f"key-{digest}")
    except JobNotFound:
        return None
    return job if _is_of(job, call) else None


def _is_of(job: Job, call: Call[Any]) -> bool:
    return (job.name, job.args) == (call.definition.name, dict(call.arguments))


async def _existing(here: Shared, job_id: str, same_as: Call[Any] | None) -> Response:
    job = await here.client.find(job_id)
    if same_as is not None and not _is_of(job, same_as):
        raise IdempotencyConflict("the Idempotency-Key must be new: it was used for another job or other arguments")
    return JsonResponse(job_record(job), 200, headers=_location(job_id))


def _first_state(options: Any) -> str:
    return "deferred" if options.get("delay") or "run_at" in options else "queued"


def _location(job_id: str) -> dict[str, str]:
    return {"Location": links(job_id)["self"]}


async def show_job(request: Request) -> Response:
    """`GET /jobs/{id}`; with `?wait=`, answered when the job has ended or the seconds have passed."""
    return JsonResponse(job_record(await _find(request)))


async def show_progress(request: Request) -> Response:
    """`GET /jobs/{id}/progress`."""
    job = await _find(request)
    return JsonResponse({"id": job.id, "state": job.state, "progress": progress_record(job.progress)})


async def show_result(request: Request) -> Response:
    """`GET /jobs/{id}/result`: 202 until the job has ended."""
    job = await _find(request)
    record: dict[str, Any] = {"id": job.id, "state": job.state}
    if not job.state.ended:
        return JsonResponse(record, 202, headers={"Retry-After": str(POLL_AGAIN_SECONDS)})
    return JsonResponse(record | {"result": job.result, "error": error_record(job.error)})


async def explain(request: Request) -> Response:
    """`GET /jobs/{id}/why`: why it waits; no reasons when it runs or has ended."""
    job_id = request.path_params["id"]
    reasons = await shared(request).client.why(job_id)
    return JsonResponse({"id": job_id, "reasons": [asdict(reason) for reason in reasons]})


async def cancel_job(request: Request) -> Response:
    """`POST /jobs/{id}/cancel`: 200 when it is cancelled, 202 when it runs and was signalled, 409 when it has ended."""
    job_id = request.path_params["id"]
    state = await shared(request).client.cancel(job_id)
    record = {"id": job_id, "state": state, "links": links(job_id)}
    return JsonResponse(record, 200 if state.ended else 202, headers=_location(job_id))


async def list_jobs(request: Request) -> Response:
    """`GET /jobs`: ended jobs from the history, filtered, newest end first."""
    asked = HistoryQuery.read(dict(request.query_params))
    page = await History(shared(request).database.engine).list(asked.query())
    records, all_fit = await fitting(map(job_record, page.jobs))
    following = page.following if all_fit else cursor_of(page.jobs[len(records) - 1])
    return JsonResponse({"jobs": records, "next": following})


async def _find(request: Request) -> Job:
    """From Redis while the job lives and its result is kept, from the history afterwards."""
    here, job_id = shared(request), request.path_params["id"]
    wait = wait_of(request)
    try:
        return await (here.client.wait_for(job_id, wait) if wait else here.client.find(job_id))
    except JobNotFound:
        if not here.database.is_set:
            raise
    return await History(here.database.engine, unread=True).find(job_id)


def wait_of(request: Request) -> float:
    """Seconds of `?wait=`, 60 at most."""
    text = request.query_params.get("wait", "0")
    try:
        seconds = float(text)
        if not 0 <= seconds <= LONGEST_WAIT:
            raise ValueError
    except ValueError:
        message = f"must be a number of seconds from 0 to {LONGEST_WAIT:.0f}"
        raise InvalidBody([ArgumentProblem(("wait",), message)]) from None
    return seconds


async def list_definitions(request: Request) -> Response:
    """`GET /definitions`: every job with the JSON schema of its arguments."""
    records = [
        {
            "job": definition.name,
            "path": definition.path,
            "description": (definition.__doc__ or "").strip().partition("\n")[0],
            "queue": definition.queue,
            "arguments": definition.schema.json_schema(),
        }
        for definition in sorted(shared(request).registry, key=lambda definition: definition.name)
    ]
    return JsonResponse({"definitions": records})
