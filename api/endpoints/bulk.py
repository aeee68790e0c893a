"""Many jobs in one request."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from api.errors import STATUS, InvalidBody
from api.json import JsonResponse, read_object
from api.schemas import NewJobBody, links
from api.state import shared
from worker.calls import Call
from worker.errors import ArgumentProblem, EmbarqError, InvalidArguments, UnknownJob
from worker.options import CALLBACKS, check_client_options
from worker.registry import Registry

MOST_JOBS = 10_000


async def create_jobs(request: Request) -> Response:
    """`POST /jobs/bulk`: up to 10,000 jobs, each accepted or refused on its own; the answers are in their order."""
    body = await read_object(request)
    jobs = body.get("jobs")
    if not isinstance(jobs, list) or len(jobs) > MOST_JOBS or body.keys() != {"jobs"}:
        raise InvalidBody([ArgumentProblem(("jobs",), f"is a list of at most {MOST_JOBS} jobs, and all there is")])
    here = shared(request)
    read = [_read(here.registry, job) for job in jobs]
    handles = iter(await here.client.enqueue_many(call for call in read if isinstance(call, Call)))
    answers: list[dict[str, Any]] = []
    for each in read:
        if isinstance(each, Call):
            handle = next(handles)
            answers.append({"id": handle.id, "created": handle.created, "links": links(handle.id)})
        else:
            answers.append(_refusal(each))
    accepted = sum("id" in answer for answer in answers)
    return JsonResponse({"accepted": accepted, "refused": len(answers) - accepted, "jobs": answers}, 202)


def _read(registry: Registry, job: Any) -> Call[Any] | EmbarqError:
    """One job of the list, or why it is refused."""
    try:
        body = NewJobBody.read(job)
        clash = next((name for name in CALLBACKS if name in body.options), None)
        if clash is not None:
            raise InvalidBody([ArgumentProblem(("options", clash), "is for single jobs and workflows")])
        return registry.get(body.job).call_with(body.args, check_client_options(body.job, body.options))
    except (InvalidBody, InvalidArguments, UnknownJob) as error:
        return error


def _refusal(error: EmbarqError) -> dict[str, Any]:
    problems = getattr(error, "problems", ())
    return {
        "status": STATUS[type(error)].value,
        "detail": str(error),
        "errors": [{"pointer": problem.pointer, "detail": problem.message} for problem in problems],
    }
