"""Bodies of requests: how large one may be, and all of a process together; how slowly one may come."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.http.errors import BodyTooLarge, BodyTooSlow, TooManyBodies, problem
from worker.http.json import JsonResponse

LONGEST_PAUSE = 10.0  # seconds without a byte
LONGEST_WHOLE = 30.0  # seconds for all of a body
LINGER = 1.0  # seconds for which a refused client's bytes are still read, so that it sees its answer

TWO_LENGTHS = "the body's length must be given once, and is given twice: by Content-Length and by Transfer-Encoding"


class InFlight:
    """The bytes of all bodies that this process holds: `most` of them together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.held = 0

    def take(self, count: int) -> None:
        """Count bytes that have come.

        Raises:
            TooManyBodies: they are more than there is room for; they are not counted.
        """
        if self.held + count > self._most:
            raise TooManyBodies(f"at most {self._most:,} bytes of requests may be under way, and are: try again")
        self.held += count

    def give_back(self, count: int) -> None:
        """Stop counting them."""
        self.held -= count


class Bodies:
    """Refuses bodies over `limit` bytes, by their declared length or while they arrive; paths in `larger` take more.

    A body that does not come within its time is answered 408, one that there is no room for 503, and one with two
    lengths 400: a proxy in front may have read the other one, and what follows would be taken for a request of its own
    (request smuggling; RFC 9112, 6.1 and 11.2).
    """

    def __init__(self, app: ASGIApp, limit: int, larger: Mapping[str, int], in_flight: int) -> None:
        self._app = app
        self._limit = min(limit, in_flight)
        self._larger = {path: min(bytes_, in_flight) for path, bytes_ in larger.items()}
        self.in_flight = InFlight(in_flight)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if "transfer-encoding" in headers and "content-length" in headers:
            await _refuse_two_lengths(receive, send)
            return
        limit = self._larger.get(scope["path"], self._limit)
        declared = headers.get("content-length", "0")
        too_large = not declared.isdecimal() or int(declared) > limit
        body = _Body(receive, limit, self.in_flight)

        async def receive_limited() -> Message:
            if too_large:
                raise BodyTooLarge(limit)
            return await body.receive()

        try:
            await self._app(scope, receive_limited, send)
        finally:
            body.close()


class _Body:
    """One body while it arrives, and until its request is served."""

    def __init__(self, receive: Receive, limit: int, in_flight: InFlight) -> None:
        self._receive = receive
        self._limit = limit
        self._in_flight = in_flight
        self._taken = 0
        self._complete = False
        self._until: float | None = None

    async def receive(self) -> Message:
        """The next message; once the body is complete, whatever follows, for as long as it takes."""
        if self._complete:
            return await self._receive()
        message = await self._in_time()
        count = len(message.get("body", b""))
        if self._taken + count > self._limit:
            raise BodyTooLarge(self._limit)
        self._in_flight.take(count)
        self._taken += count
        self._complete = not message.get("more_body", False)
        return message

    async def _in_time(self) -> Message:
        now = time.monotonic()
        self._until = self._until or now + LONGEST_WHOLE
        try:
            async with asyncio.timeout(max(0.0, min(LONGEST_PAUSE, self._until - now))):
                return await self._receive()
        except TimeoutError:
            raise BodyTooSlow(
                f"the body must come within {LONGEST_WHOLE:.0f} s, and without pauses of {LONGEST_PAUSE:.0f} s"
            ) from None

    def close(self) -> None:
        """The request is served."""
        self._in_flight.give_back(self._taken)
        self._taken = 0


async def _refuse_two_lengths(receive: Receive, send: Send) -> None:
    """Answer, read on for a moment, and close. If it were closed with bytes unread, TCP would reset the connection, and
    the client might lose the answer (RFC 9112, 9.6)."""
    answer: JsonResponse = problem(HTTPStatus.BAD_REQUEST, TWO_LENGTHS)
    answer.headers["Connection"] = "close"
    await send({"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": True})
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            while (await receive()).get("more_body", False):
                pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})
