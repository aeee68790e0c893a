"""Stand-ins for outside services in development: they keep requests where a person can look at them, and can be made
to fail."""

import hashlib
from datetime import UTC, datetime
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from api.schemas import MessageBody
from api.state import platform
from worker import ArgumentProblem
from worker.http import InvalidBody, JsonResponse, read_object
from worker.settings import is_loopback

LISTED = 1000
SERVICES = ("sms", "payment", "crm", "warehouse")


async def take_request(request: Request) -> Response:
    """`POST /stand-ins/{service}`: 201, 200 when the key was seen before, or the failure that was asked for.

    A payment is answered with its charge's id, the same for the same key.
    """
    name, here = _service(request, *SERVICES), platform(request)
    body = dict(await read_object(request))
    if here.troubles.get(name):
        return JsonResponse({"status": "in trouble"}, here.troubles[name].pop(0))
    if name == "sms":
        body = MessageBody.read(body).model_dump()
    key = request.headers.get("Idempotency-Key")
    added = here.boxes[name].add({"received_at": datetime.now(UTC).isoformat(), **body, "key": key})
    answer: dict[str, Any] = {"status": "accepted" if added else "seen before"}
    if name == "payment":
        answer["id"] = "ch_" + hashlib.sha256(str(key).encode()).hexdigest()[:24]
    return JsonResponse(answer, 201 if added else 200)


async def list_requests(request: Request) -> Response:
    """`GET /stand-ins/{service}`: how many requests came, and the newest thousand; of `mail`, the e-mails."""
    count, messages = await platform(request).boxes[_service(request, *SERVICES, "mail")].newest(LISTED)
    return JsonResponse({"count": count, "messages": messages})


async def make_trouble(request: Request) -> Response:
    """`POST /stand-ins/{service}/trouble`: `{"statuses": [503, 503]}` are its next answers."""
    statuses = (await read_object(request)).get("statuses")
    if not isinstance(statuses, list) or not all(isinstance(each, int) and 400 <= each < 600 for each in statuses):
        raise InvalidBody([ArgumentProblem(("statuses",), "must be a list of numbers from 400 to 599")])
    platform(request).troubles[_service(request, *SERVICES)] = list(statuses)
    return JsonResponse({"statuses": statuses})


def _service(request: Request, *known: str) -> str:
    """The requested service, for clients on this machine only: e-mails hold codes that nobody else may read."""
    if request.client is not None and not is_loopback(request.client.host):
        raise HTTPException(404, "stand-ins are served to this machine only")
    name: str = request.path_params["service"]
    if name not in known:
        raise HTTPException(404, f"there is no stand-in for {name!r}")
    return name
