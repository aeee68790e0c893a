"""How long a request may take: whatever hangs below it, its client gets an answer."""

import asyncio
from http import HTTPStatus

import structlog
from starlette.datastructures import QueryParams
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.http.errors import problem

logger = structlog.stdlib.get_logger("embarq.api")

SECONDS = 10.0
LONGEST_WAIT = 60.0


class Budget:
    """Answers 503 for a request whose answer has not begun `seconds` after its body was complete, and cancels it.

    A request that waits, with `?wait=S`, has S seconds more. The answer is sent at once, not after the request has
    cleaned up, which may hang as well.
    """

    def __init__(self, app: ASGIApp, seconds: float = SECONDS) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        task = asyncio.current_task()
        if scope["type"] != "http" or task is None:
            await self._app(scope, receive, send)
            return
        timed = _Timed(scope, send, task, self._seconds + wait_in(scope))
        timed.start()

        async def receive_untimed() -> Message:
            timed.pause()  # a body has limits of its own
            message = await receive()
            timed.start()
            return message

        try:
            await self._app(scope, receive_untimed, timed.send)
        except asyncio.CancelledError:
            if timed.late is None or task.uncancel() > 0:
                raise
        finally:
            timed.pause()
            if timed.late is not None:
                await timed.late


class _Timed:
    """One request and its clock."""

    def __init__(self, scope: Scope, send: Send, task: "asyncio.Task[None]", seconds: float) -> None:
        self._scope = scope
        self._send = send
        self._task = task
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self._answers = False
        self.late: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the clock, from zero."""
        if not self._answers and self.late is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._over)

    def pause(self) -> None:
        """Stop the clock."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def send(self, message: Message) -> None:
        """Send the request's answer on, unless it is too late."""
        if self.late is None:
            self._answers = True
            self.pause()
            await self._send(message)

    def _over(self) -> None:
        known = {"method": self._scope["method"], "path": self._scope["path"]}
        logger.warning("request took too long", **known, seconds=self._seconds)
        self.late = asyncio.get_running_loop().create_task(self._refuse())
        self._task.cancel()

    async def _refuse(self) -> None:
        answer = problem(HTTPStatus.SERVICE_UNAVAILABLE, f"no answer within {self._seconds:g} s; try again")
        await self._send({"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers})
        await self._send({"type": "http.response.body", "body": answer.body})


def wait_in(scope: Scope) -> float:
    """Seconds that a request asks to be held, within bounds; 0 where it does not ask, or wrongly."""
    if scope["method"] != "GET" or b"wait=" not in scope["query_string"]:
        return 0.0
    try:
        seconds = float(QueryParams(scope["query_string"]).get("wait", "0"))
    except ValueError:
        return 0.0
    return seconds if 0 <= seconds <= LONGEST_WAIT else 0.0
