"""The API key: requests without it are refused."""

import hmac
from collections.abc import Sequence
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from worker.http.errors import problem

SCHEME = "bearer"


class BearerKey:
    """Passes on requests with `Authorization: Bearer <key>` (RFC 6750), and those to keyless routes; all others are
    answered 401 with a challenge (RFC 9110, 11.6.1), before their body is read."""

    def __init__(self, app: ASGIApp, key: str, keyless: Sequence[BaseRoute]) -> None:
        self._app = app
        self._key = key.encode().strip()
        self._keyless = keyless

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan" or self._may_pass(scope):
            await self._app(scope, receive, send)
            return
        answer = problem(HTTPStatus.UNAUTHORIZED, "send the key as Authorization: Bearer <key>")
        answer.headers["WWW-Authenticate"] = 'Bearer realm="embarq"'
        await answer(scope, receive, send)

    def _may_pass(self, scope: Scope) -> bool:
        scheme, _, given = Headers(scope=scope).get("Authorization", "").partition(" ")
        # The strip is of bytes: a letter in UTF-8 may end in one that is a space in Latin-1. The comparison takes the
        # same time wherever they differ, so that it does not reveal the key byte by byte.
        if scheme.lower() == SCHEME and hmac.compare_digest(given.encode("latin-1").strip(), self._key):
            return True
        return any(route.matches(scope)[0] is Match.FULL for route in self._keyless)
