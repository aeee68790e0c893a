"""Schedules: those of the code, and those that are made here."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from worker.core.errors import ArgumentProblem, InvalidSchedule
from worker.core.options import check_client_options
from worker.core.schedule import Schedule, make_record
from worker.http.answers import fitting
from worker.http.flows import queues_in
from worker.http.json import JsonResponse, read_object
from worker.http.schemas import BASE, links
from worker.http.state import shared
from worker.runtime.scheduler import Scheduler

MOST_SCHEDULES = 10_000  # each worker reads those that are due, and each list reads them all


def _scheduler(request: Request) -> Scheduler:
    here = shared(request)
    return Scheduler(here.client.schedules, here.registry)


async def list_schedules(request: Request) -> Response:
    """`GET /schedules`: all by name, with last and next runs; `next` is for `?after=` where they do not fit."""
    after = request.query_params.get("after", "")
    found = [each for each in await _scheduler(request).list() if each.record.name > after]
    records, all_fit = await fitting(map(_record, found))
    following = None if all_fit else found[len(records) - 1].record.name
    return JsonResponse({"schedules": records, "next": following})


async def create(request: Request) -> Response:
    """`POST /schedules`: 201; 409 when another schedule has the name; 404 when the job is unknown."""
    body, here = await read_object(request), shared(request)
    record = make_record({**body, "declared": False})
    await here.queues.check(record.job, queues_in(check_client_options(record.job, record.options)))
    if await here.client.schedules.count() >= MOST_SCHEDULES:
        raise InvalidSchedule([ArgumentProblem((), f"must be one of at most {MOST_SCHEDULES:,}: drop some first")])
    found = await _scheduler(request).create(record)
    return JsonResponse(_record(found), 201, headers={"Location": f"{BASE}/schedules/{found.record.name}"})


async def show(request: Request) -> Response:
    """`GET /schedules/{name}`."""
    return JsonResponse(_record(await _scheduler(request).find(request.path_params["name"])))


async def drop(request: Request) -> Response:
    """`DELETE /schedules/{name}`: one that is declared in code comes back with its worker."""
    await _scheduler(request).drop(request.path_params["name"])
    return Response(status_code=204)


async def pause(request: Request) -> Response:
    """`POST /schedules/{name}/pause`."""
    return JsonResponse(_record(await _scheduler(request).pause(request.path_params["name"])))


async def resume(request: Request) -> Response:
    """`POST /schedules/{name}/resume`."""
    return JsonResponse(_record(await _scheduler(request).resume(request.path_params["name"])))


async def run(request: Request) -> Response:
    """`POST /schedules/{name}/run`: 202 and the job."""
    handle = await _scheduler(request).run_now(request.path_params["name"], shared(request).client)
    own = links(handle.id)
    return JsonResponse({"id": handle.id, "links": own}, 202, headers={"Location": own["self"]})


def _record(schedule: Schedule) -> dict[str, Any]:
    record = schedule.record
    own = f"{BASE}/schedules/{record.name}"
    return {
        "name": record.name,
        "job": record.job,
        "declared": record.declared,
        "cron": record.cron,
        "every": record.every,
        "tz": record.tz,
        "args": record.args,
        "options": record.options,
        "missed": record.missed,
        "overlap": record.overlap,
        "jitter": record.jitter,
        "paused": schedule.paused,
        "next_run": schedule.next_run,
        "last_run": schedule.last_run,
        "last_job": schedule.last_job,
        "links": {"self": own, **{verb: f"{own}/{verb}" for verb in ("pause", "resume", "run")}},
    }
