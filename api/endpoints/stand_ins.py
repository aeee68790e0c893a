"""Stand-ins for outside services in development: they keep what they got where a person can look at it."""

from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from api.json import JsonResponse, read_object
from api.schemas import MessageBody
from api.state import shared

LISTED = 1000


async def take_message(request: Request) -> Response:
    """`POST /stand-ins/sms`, as an SMS provider: 201, or 200 when the Idempotency-Key was seen before."""
    body = MessageBody.read(await read_object(request))
    record = {"received_at": datetime.now(UTC).isoformat(), **body.model_dump()}
    record["key"] = request.headers.get("Idempotency-Key")
    added = shared(request).box.add(record)
    return JsonResponse({"status": "accepted" if added else "seen before"}, 201 if added else 200)


async def list_messages(request: Request) -> Response:
    """`GET /stand-ins/sms`: how many messages came, and the newest thousand."""
    count, messages = await shared(request).box.newest(LISTED)
    return JsonResponse({"count": count, "messages": messages})
