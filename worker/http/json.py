"""JSON in and out."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from worker.core import wire
from worker.core.errors import EmbarqError


class InvalidJson(EmbarqError):
    """The body is not the JSON that was asked for."""


class JsonResponse(Response):
    """An answer in JSON. Times are written as RFC 3339."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode the content."""
        return wire.dumps(content)


class ProblemResponse(JsonResponse):
    """An error (RFC 9457)."""

    media_type = "application/problem+json"


async def read_object(request: Request) -> Mapping[str, Any]:
    """The body, which must be a JSON object.

    Raises:
        InvalidJson: it is not.
        BodyTooLarge: it is larger than the limit.
    """
    try:
        body = msgspec.json.decode(await request.body())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidJson(f"the body must be JSON: {error}") from error
    except RecursionError as error:
        raise InvalidJson("the body must be nested less deeply") from error
    if not isinstance(body, dict):
        raise InvalidJson(f"the body must be a JSON object, not {type(body).__name__}")
    return body
