"""Many jobs in one request: counted and measured before they are read, and read one after the other."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from worker.core import wire
from worker.core.calls import Call
from worker.core.errors import ArgumentProblem, EmbarqError, InvalidArguments, UnknownJob
from worker.core.handle import JobHandle
from worker.core.options import CALLBACKS, MOST_PROBLEMS, check_client_options
from worker.http.answers import LARGEST_ANSWER
from worker.http.errors import BodyTooLarge, InvalidBody, detail_of, problem_records, status_of
from worker.http.json import InvalidJson, JsonResponse
from worker.http.known_queues import refused
from worker.http.parts import members
from worker.http.schemas import NewJobBody, links
from worker.http.state import Shared, shared
from worker.http.turns import Turns

MOST_JOBS = 10_000
SHORTEST_DETAIL = 100  # characters of an error where the answers of many jobs must share one response


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    jobs: msgspec.Raw


async def create_jobs(request: Request) -> Response:
    """`POST /jobs/bulk`: up to 10,000 jobs, each accepted or refused on its own; the answers are in their order."""
    jobs = split(await request.body())
    here, turns = shared(request), Turns()
    allowance = LARGEST_ANSWER // max(1, len(jobs))
    read: list[Call[Any] | msgspec.Raw] = []
    for job in jobs:
        read.append(_read(here, job, allowance))
        await turns.give_way()
    await _refuse_unknown_queues(here, read, allowance)
    handles = iter(await here.client.enqueue_many(call for call in read if isinstance(call, Call)))
    answers = []
    for each in _answers(read, handles, allowance):
        answers.append(each)
        await turns.give_way()
    accepted = sum(isinstance(each, Call) for each in read)
    return JsonResponse({"accepted": accepted, "refused": len(read) - accepted, "jobs": answers}, 202)


def split(body: bytes) -> list[msgspec.Raw]:
    """The jobs of a bulk, not read yet.

    Raises:
        InvalidJson: the body is not a JSON object.
        InvalidBody: it does not have just the one list, or that is too long.
    """
    if body.lstrip()[:1] != b"{":
        raise InvalidJson("the body must be a JSON object")
    try:
        jobs = members(msgspec.json.decode(body, type=_Body).jobs, MOST_JOBS)
    except msgspec.ValidationError:
        jobs = None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidJson(f"the body must be JSON: {error}") from error
    if jobs is None:
        wrong = f"must be a list of at most {MOST_JOBS:,} jobs, and the only field"
        raise InvalidBody([ArgumentProblem(("jobs",), wrong)])
    return jobs


def _read(here: Shared, job: msgspec.Raw, allowance: int) -> Call[Any] | msgspec.Raw:
    """One job of the list, or the answer that refuses it."""
    try:
        if len(memoryview(job)) > here.largest_job:
            raise BodyTooLarge(here.largest_job)
        body = NewJobBody.read(_decoded(job))
        clash = next((name for name in CALLBACKS if name in body.options), None)
        if clash is not None:
            raise InvalidBody([ArgumentProblem(("options", clash), "must be left to single jobs and workflows")])
        return here.registry.get(body.job).call_with(body.args, check_client_options(body.job, body.options))
    except (InvalidJson, InvalidBody, InvalidArguments, UnknownJob, BodyTooLarge) as error:
        return refusal(error, allowance)


def _decoded(job: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(job)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidJson(f"a job must be JSON: {error}") from error


async def _refuse_unknown_queues(here: Shared, read: list[Call[Any] | msgspec.Raw], allowance: int) -> None:
    names = {each.options["queue"] for each in read if isinstance(each, Call) and "queue" in each.options}
    unknown = await here.queues.unknown(names)
    if not unknown:
        return
    for place, each in enumerate(read):
        if isinstance(each, Call) and each.options.get("queue") in unknown:
            read[place] = refusal(refused(each.definition.name, each.options["queue"]), allowance)


def _answers(
    read: list[Call[Any] | msgspec.Raw], handles: Iterator[JobHandle[Any]], allowance: int
) -> Iterator[msgspec.Raw]:
    for each in read:
        if isinstance(each, Call):
            handle = next(handles)
            record: dict[str, Any] = {"id": handle.id, "created": handle.created}
            full = wire.dumps(record | {"links": links(handle.id)})
            yield msgspec.Raw(full if len(full) <= allowance else wire.dumps(record))
        else:
            yield each


def refusal(error: EmbarqError, allowance: int) -> msgspec.Raw:
    """The answer for a job that is refused, in about `allowance` bytes: the more jobs, the fewer words for each."""
    problems = problem_records(getattr(error, "problems", ()))
    status: HTTPStatus = status_of(error)
    record = {"status": status.value, "detail": detail_of(error), "errors": problems}
    for kept in (MOST_PROBLEMS, 5, 1):
        record["errors"] = problems[:kept]
        encoded = wire.dumps(record)
        if len(encoded) <= allowance:
            return msgspec.Raw(encoded)
    return msgspec.Raw(wire.dumps(record | {"detail": detail_of(error)[:SHORTEST_DETAIL]}))
