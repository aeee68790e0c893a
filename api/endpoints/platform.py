"""The learning platform: rows and jobs that are committed together, and jobs under URLs of their own."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api.errors import FileGone, LinkExpired
from api.schemas import CompletionBody, EnrolmentBody, OrderBody, RegistrationBody, ResetBody
from api.state import platform
from jobs.certificates import revoke_certificate
from jobs.exports import export_students_csv
from jobs.lookups import get
from jobs.messaging import send_bulk_messages
from jobs.models import StoredFile
from jobs.notifications import broadcast
from jobs.pipelines import process_batch, process_text
from jobs.reports import generate_student_report
from jobs.services import commerce, learning, people
from worker import ArgumentProblem
from worker.core.options import EnqueueOptions
from worker.definition.definitions import JobDefinition
from worker.http import InvalidBody, JsonResponse, read_object, shared
from worker.http.schemas import links

LONGEST_TIME = 12  # digits


async def register(request: Request) -> Response:
    """`POST /register`: 201; e-mail, invoice and CRM follow; 409 when the address is known."""
    body = RegistrationBody.read(await read_object(request))
    async with shared(request).database.session() as session:
        user_id, student_id = await people.register_user(session, body.name, body.email)
    return JsonResponse({"user_id": user_id, "student_id": student_id}, 201)


async def reset_password(request: Request) -> Response:
    """`POST /password-reset`: always 202; the answer does not reveal whether the address is known."""
    body = ResetBody.read(await read_object(request))
    async with shared(request).database.session() as session:
        await people.request_password_reset(session, body.email)
    return JsonResponse({"status": "accepted"}, 202)


async def enrol(request: Request) -> Response:
    """`POST /enrolments`: 201, or 200 when the student was in the course."""
    body = EnrolmentBody.read(await read_object(request))
    async with shared(request).database.session() as session:
        made = await learning.enrol(session, body.student_id, body.course_id)
    return JsonResponse({"enrolled": True}, 201 if made else 200)


async def complete_course(request: Request) -> Response:
    """`POST /courses/{id}/complete`: 200; the certificate follows, the first time."""
    body = CompletionBody.read({**await read_object(request), "course_id": request.path_params["id"]})
    async with shared(request).database.session() as session:
        first = await learning.complete_course(session, body.student_id, body.course_id)
    return JsonResponse({"completed": True, "certificate": first})


async def place_order(request: Request) -> Response:
    """`POST /orders`: 201 and the id of the workflow of all that follows."""
    body = OrderBody.read(await read_object(request))
    lines = [(line.product_id, line.quantity) for line in body.lines]
    async with shared(request).database.session() as session:
        order_id = await commerce.place_order(session, body.user_id, lines)
    return JsonResponse({"order_id": order_id, "workflow_id": f"order~{order_id}"}, 201)


async def _queue(request: Request, job: JobDefinition[..., Any], arguments: dict[str, Any]) -> Response:
    handle = await shared(request).client.enqueue(job.call_with(arguments, EnqueueOptions()))
    own = links(handle.id)
    return JsonResponse({"id": handle.id, "links": own}, 202, headers={"Location": own["self"]})


async def send_messages(request: Request) -> Response:
    """`POST /messages/bulk`: 202 and the job `send_bulk_messages`."""
    return await _queue(request, send_bulk_messages, dict(await read_object(request)))


async def report_on_student(request: Request) -> Response:
    """`POST /students/{id}/report`: 202 and the job; its result has the file's link."""
    return await _queue(request, generate_student_report, {"student_id": request.path_params["id"]})


async def export_students(request: Request) -> Response:
    """`POST /exports/students`: 202 and the job; its result has the file's link."""
    return await _queue(request, export_students_csv, dict(await read_object(request)))


async def broadcast_note(request: Request) -> Response:
    """`POST /broadcast`: 202 and the job, whose result is a list of workflows' ids."""
    return await _queue(request, broadcast, dict(await read_object(request)))


async def process(request: Request) -> Response:
    """`POST /process`: 202 and the job `process_text`, whose result is the workflow's id."""
    return await _queue(request, process_text, dict(await read_object(request)))


async def calculate(request: Request) -> Response:
    """`POST /calculate`: 202 and the job `process_batch`, whose result is the workflow's id."""
    return await _queue(request, process_batch, dict(await read_object(request)))


async def revoke(request: Request) -> Response:
    """`POST /certificates/{id}/revoke`: 202 and the job."""
    arguments = {**await read_object(request), "certificate_id": request.path_params["id"]}
    return await _queue(request, revoke_certificate, arguments)


async def download(request: Request) -> Response:
    """`GET /files/{id}`: the file, to whoever has a link that has not expired; 403 otherwise, 410 when it is gone."""
    store, file_id = platform(request).store, request.path_params["id"]
    until, signature = request.query_params.get("until", ""), request.query_params.get("signature", "")
    if not until.isdecimal() or len(until) > LONGEST_TIME:
        raise InvalidBody([ArgumentProblem(("until",), "must be a Unix time")])
    if not store.allows(file_id, int(until), signature):
        raise LinkExpired("the link has expired, or its signature is wrong: ask for a new one")
    async with shared(request).database.session() as session:
        file = await get(session, StoredFile, file_id)
    headers = {"Content-Length": str(file.size), "Content-Disposition": _attached(file.name)}
    if request.method == "HEAD":
        return Response(headers=headers, media_type=file.content_type)
    parts = store.parts(file.place)
    try:
        first = await anext(parts, b"")  # a missing file must be noticed before the status is sent
    except FileNotFoundError as error:
        raise FileGone(f"the file {file.name} is gone") from error
    return StreamingResponse(_after(first, parts), headers=headers, media_type=file.content_type)


def _attached(name: str) -> str:
    """The header of RFC 6266: names that are not plain ASCII in its extended form."""
    quoted = quote(name)
    return f'attachment; filename="{name}"' if quoted == name else f"attachment; filename*=utf-8''{quoted}"


async def _after(first: bytes, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for part in parts:
        yield part
