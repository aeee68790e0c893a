"""In-process tasks after the response, beside the queue. When to use which: `docs/background-tasks.md`."""

from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from api.schemas import ContactBody
from api.state import platform
from jobs.providers import SmsProvider
from worker.http import JsonResponse, after_response, read_object


async def contact(request: Request) -> Response:
    """`POST /contact`: answers at once, then keeps the message (a sync task) and thanks the sender (an async one).

    Neither is retried, and both are lost if the process dies: fit for courtesy, not for orders.
    """
    body = ContactBody.read(await read_object(request))
    here = platform(request)
    tasks = after_response(request)
    tasks.add_task(here.contacts.add, {"received_at": datetime.now(UTC).isoformat(), **body.model_dump()})
    tasks.add_task(_thank, here.sms, body.number, body.name)
    return JsonResponse({"status": "received"}, 202)


async def _thank(sms: SmsProvider, number: str, name: str) -> None:
    await sms.send(number, f"Thank you, {name}. We got your message.", "text", key=f"contact:{number}:{name}")
