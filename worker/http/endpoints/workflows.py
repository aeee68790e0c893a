"""Workflows: start, look up, cancel, retry."""

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from worker.core.errors import ArgumentProblem
from worker.core.workflow import Step, Workflow
from worker.core.workflow_graph import check_client_workflow_options
from worker.http.answers import fitting
from worker.http.endpoints.jobs import POLL_AGAIN_SECONDS, wait_of
from worker.http.errors import InvalidBody
from worker.http.flows import FlowReader, queues_in, queues_of, read_callbacks
from worker.http.json import JsonResponse
from worker.http.schemas import BASE, error_record
from worker.http.state import shared


async def start(request: Request) -> Response:
    """`POST /workflows`: 202, or 200 when one with this id was there already."""
    here = shared(request)
    flow, options = await FlowReader(here.registry, here.largest_job).read(await request.body())
    checked = check_client_workflow_options({**options, **read_callbacks(here.registry, options)})
    await here.queues.check("workflow", {*queues_of(flow), *queues_in(checked)})
    handle = await here.client.start(flow, checked)
    own = _links(handle.id)
    headers = {"Location": own["self"], "Retry-After": str(POLL_AGAIN_SECONDS)}
    return JsonResponse({"id": handle.id, "links": own}, 202 if handle.created else 200, headers=headers)


async def show(request: Request) -> Response:
    """`GET /workflows/{id}`; with `?wait=`, answered when it has ended or the seconds have passed.

    `next_step` is for `?after=`, where its steps do not fit.
    """
    workflow_id, after = request.path_params["id"], _after(request)
    workflow = await shared(request).client.wait_for_workflow(workflow_id, wait_of(request))
    steps = [step for step in workflow.steps if step.node > after]
    records, all_fit = await fitting(map(_step, steps))
    following = None if all_fit else steps[len(records) - 1].node
    return JsonResponse(_record(workflow) | {"steps": records, "next_step": following})


def _after(request: Request) -> int:
    text = request.query_params.get("after", "-1")
    if not re.fullmatch(r"-1|\d{1,9}", text):
        raise InvalidBody([ArgumentProblem(("after",), "must be the number of a step")])
    return int(text)


def _step(step: Step) -> dict[str, Any]:
    return {"node": step.node, "state": step.state, "job_id": step.job_id, "job": step.job, "then": step.then}


async def cancel(request: Request) -> Response:
    """`POST /workflows/{id}/cancel`: 409 when it has ended."""
    workflow_id = request.path_params["id"]
    await shared(request).client.cancel_workflow(workflow_id)
    return JsonResponse({"id": workflow_id, "state": "cancelled", "links": _links(workflow_id)})


async def retry(request: Request) -> Response:
    """`POST /workflows/{id}/retry`: resumes where it failed or was cancelled; 409 when it has succeeded."""
    workflow_id = request.path_params["id"]
    await shared(request).client.retry_workflow(workflow_id)
    return JsonResponse({"id": workflow_id, "state": "running", "links": _links(workflow_id)}, 202)


def _record(workflow: Workflow) -> dict[str, Any]:
    return {
        "id": workflow.id,
        "state": workflow.state,
        "on_failure": workflow.on_failure,
        "created_at": workflow.created_at,
        "finished_at": workflow.finished_at,
        "result": workflow.result,
        "error": error_record(workflow.error),
        "failed": workflow.failed,
        "links": _links(workflow.id),
    }


def _links(workflow_id: str) -> dict[str, str]:
    own = f"{BASE}/workflows/{workflow_id}"
    return {"self": own, "cancel": f"{own}/cancel", "retry": f"{own}/retry"}
