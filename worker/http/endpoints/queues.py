"""Queues: their lengths, pause, resume, purge."""

from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from worker.core.options import check_options
from worker.http.answers import fitting
from worker.http.errors import UnknownQueue
from worker.http.json import JsonResponse
from worker.http.state import shared


async def list_queues(request: Request) -> Response:
    """`GET /queues`: every queue that was ever used, by name; `next` is for `?after=` where they do not fit."""
    after = request.query_params.get("after", "")
    found = [record for record in await shared(request).client.queues() if record.queue > after]
    records, all_fit = await fitting(map(asdict, found))
    return JsonResponse({"queues": records, "next": None if all_fit else found[len(records) - 1].queue})


async def pause(request: Request) -> Response:
    """`POST /queues/{name}/pause`: no worker takes jobs from it; running ones are not touched."""
    name = await _name(request)
    await shared(request).client.pause_queue(name)
    return JsonResponse({"queue": name, "paused": True})


async def resume(request: Request) -> Response:
    """`POST /queues/{name}/resume`."""
    name = await _name(request)
    await shared(request).client.resume_queue(name)
    return JsonResponse({"queue": name, "paused": False})


async def purge(request: Request) -> Response:
    """`DELETE /queues/{name}/jobs`: cancels what waits."""
    name = await _name(request)
    return JsonResponse({"queue": name, "cancelled": await shared(request).client.purge_queue(name)})


async def _name(request: Request) -> str:
    """The queue of the path; 404 for an unknown one, so that requests create no keys in Redis."""
    name: Any = request.path_params["name"]
    queue = check_options("queue", {"queue": name})["queue"]
    if not await shared(request).queues.is_known(queue):
        raise UnknownQueue(queue)
    return queue
