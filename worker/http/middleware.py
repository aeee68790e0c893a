"""What happens around every request: its id, its log line, and tasks after the answer."""

import asyncio
import os
import re
import time
from typing import Any

import structlog
from starlette.background import BackgroundTasks
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.observability.batched_log_handler import BatchedLogger

logger = structlog.stdlib.get_logger("embarq.api")
lines = BatchedLogger("embarq.api")

REQUEST_ID = "X-Request-ID"
# An id from a client goes into logs and a header: nothing that could break a line of either.
_ALLOWED_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

# The requests being served, by their tasks: the watch on the event loop names the one that blocks it.
_served: "dict[asyncio.Task[Any], Scope]" = {}


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
        started, status, task = time.perf_counter(), 500, asyncio.current_task()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            if task is not None:
                _served[task] = scope
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                _served.pop(task, None)  # type: ignore[arg-type]  # None is no key, and nothing is popped
                duration = round((time.perf_counter() - started) * 1000, 1)
                known = {"request_id": request_id, "method": scope["method"], "path": scope["path"]}
                lines.info("request", {**known, "status": status, "ms": duration})
                await _run(tasks)


def after_response(request: Request) -> BackgroundTasks:
    """The request's in-process tasks: `after_response(request).add_task(function, *args)`."""
    tasks: BackgroundTasks = request.state.after_response
    return tasks


def request_of(task: "asyncio.Task[Any] | None") -> dict[str, Any]:
    """The method and path of the request that a task serves, for a log line; from any thread."""
    scope = None if task is None else _served.get(task)
    return {} if scope is None else {"method": scope["method"], "path": scope["path"]}


async def _run(tasks: BackgroundTasks) -> None:
    for task in tasks.tasks:
        try:
            await task()
        except Exception:
            logger.exception("task after the response failed", task=getattr(task.func, "__name__", repr(task.func)))
