"""Is the process alive, can it serve, does anybody run jobs?"""

from starlette.requests import Request
from starlette.responses import Response

from api.json import JsonResponse
from api.state import shared
from worker.database import DatabaseUnavailable, ping
from worker.errors import BrokerUnavailable


async def live(_request: Request) -> Response:
    """`GET /health/live`: the process answers."""
    return JsonResponse({"status": "ok"})


async def ready(request: Request) -> Response:
    """`GET /health/ready`: Redis answers, and the database where one is set; 503 otherwise, naming each.

    `warnings` tell why Redis may lose jobs.
    """
    here = shared(request)
    found = {"redis": "ok", "database": "not set"}
    warnings: list[str] = []
    try:
        warnings = (await here.client.inspector.server()).warnings
    except BrokerUnavailable as error:
        found["redis"] = str(error)
    if here.database.is_set:
        found["database"] = "ok"
        try:
            await ping(here.database.engine)
        except DatabaseUnavailable as error:
            found["database"] = str(error)
    serves = all(finding in ("ok", "not set") for finding in found.values())
    record = {"status": "ok" if serves else "unavailable", **found, "warnings": warnings}
    return JsonResponse(record, 200 if serves else 503)


async def workers(request: Request) -> Response:
    """`GET /health/workers`: the workers that live; 503 when there is none."""
    records = await shared(request).client.workers()
    found = [{"id": r.id, "queues": r.queues, "concurrency": r.concurrency, "running": r.running} for r in records]
    status = "ok" if found else "unavailable"
    return JsonResponse({"status": status, "workers": found}, 200 if found else 503)
