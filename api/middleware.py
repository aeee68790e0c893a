"""What happens around every request: its id, its log line, its size limit, and tasks after the answer."""

import os
import re
import time
from collections.abc import Mapping

import structlog
from starlette.background import BackgroundTasks
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import BodyTooLarge
from worker.observability.lines import LineLogger

logger = structlog.stdlib.get_logger("embarq.api")
lines = LineLogger("embarq.api")

REQUEST_ID = "X-Request-ID"
_ALLOWED_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class RequestContext:
    """Gives each request an id (the client's, or a new one), puts it into logs and the answer, and runs the tasks
    that were added with `after_response` once the answer is out. A task that fails is logged; the others run."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = asked if _ALLOWED_ID.fullmatch(asked) else os.urandom(16).hex()
        tasks = scope.setdefault("state", {})["after_response"] = BackgroundTasks()
        started, status = time.perf_counter(), 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                duration = round((time.perf_counter() - started) * 1000, 1)
                known = {"request_id": request_id, "method": scope["method"], "path": scope["path"]}
                lines.info("request", {**known, "status": status, "ms": duration})
                await _run(tasks)


def after_response(request: Request) -> BackgroundTasks:
    """The request's in-process tasks: `after_response(request).add_task(function, *args)`."""
    tasks: BackgroundTasks = request.state.after_response
    return tasks


async def _run(tasks: BackgroundTasks) -> None:
    for task in tasks.tasks:
        try:
            await task()
        except Exception:
            logger.exception("task after the response failed", task=getattr(task.func, "__name__", repr(task.func)))


class BodyLimit:
    """Refuses bodies over `limit` bytes, by their declared length or while they arrive. Paths in `larger` take more."""

    def __init__(self, app: ASGIApp, limit: int, larger: Mapping[str, int]) -> None:
        self._app = app
        self._limit = limit
        self._larger = larger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._larger.get(scope["path"], self._limit)
        declared = Headers(scope=scope).get("content-length", "0")
        too_large = not declared.isdecimal() or int(declared) > limit
        taken = 0

        async def receive_limited() -> Message:
            nonlocal taken
            if too_large:
                raise BodyTooLarge(limit)
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                raise BodyTooLarge(limit)
            return message

        await self._app(scope, receive_limited, send)
