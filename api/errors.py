"""Every error's answer: exception → status in one table, written as problem details (RFC 9457)."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from api.json import InvalidJson, ProblemResponse
from jobs.lookups import Missing
from jobs.services.people import AddressTaken
from worker.database import DatabaseNotSet, DatabaseUnavailable
from worker.errors import (
    ArgumentProblem,
    BrokerUnavailable,
    EmbarqError,
    InvalidArguments,
    InvalidOptions,
    InvalidSchedule,
    InvalidWorkflow,
    JobEnded,
    JobNotFound,
    ScheduleExists,
    ScheduleNotFound,
    UnknownJob,
    WorkflowEnded,
    WorkflowNotFound,
)
from worker.history.reader import InvalidCursor

logger = structlog.stdlib.get_logger("embarq.api")

RETRY_AFTER_SECONDS = 2


class InvalidBody(EmbarqError):
    """The body is JSON, but some fields are missing or wrong."""

    def __init__(self, problems: Sequence[ArgumentProblem]) -> None:
        super().__init__("the body has missing or wrong fields")
        self.problems = tuple(problems)


class BodyTooLarge(EmbarqError):
    """The body is larger than the limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body is larger than {limit} bytes")


class LinkExpired(EmbarqError):
    """A link to a file has expired, or was never ours."""


class IdempotencyConflict(EmbarqError):
    """The key was used for another request."""


STATUS: dict[type[Exception], HTTPStatus] = {
    InvalidJson: HTTPStatus.BAD_REQUEST,
    UnknownJob: HTTPStatus.NOT_FOUND,
    JobNotFound: HTTPStatus.NOT_FOUND,
    Missing: HTTPStatus.NOT_FOUND,
    LinkExpired: HTTPStatus.FORBIDDEN,
    AddressTaken: HTTPStatus.CONFLICT,
    WorkflowNotFound: HTTPStatus.NOT_FOUND,
    ScheduleNotFound: HTTPStatus.NOT_FOUND,
    BodyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    InvalidArguments: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidOptions: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidBody: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidCursor: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidWorkflow: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidSchedule: HTTPStatus.UNPROCESSABLE_ENTITY,
    JobEnded: HTTPStatus.CONFLICT,
    WorkflowEnded: HTTPStatus.CONFLICT,
    ScheduleExists: HTTPStatus.CONFLICT,
    IdempotencyConflict: HTTPStatus.UNPROCESSABLE_ENTITY,
    BrokerUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    DatabaseUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    DatabaseNotSet: HTTPStatus.SERVICE_UNAVAILABLE,
}


def problem(status: HTTPStatus, detail: str, errors: Sequence[ArgumentProblem] = ()) -> ProblemResponse:
    """A problem details answer; each of `errors` points at a field of the body."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
    }
    if errors:
        body["errors"] = [{"pointer": error.pointer, "detail": error.message} for error in errors]
    wait = {"Retry-After": str(RETRY_AFTER_SECONDS)} if status is HTTPStatus.SERVICE_UNAVAILABLE else {}
    return ProblemResponse(body, status.value, headers=wait)


def _known(_request: Request, error: Exception) -> Response:
    return problem(STATUS[type(error)], str(error), getattr(error, "problems", ()))


def _http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # the table below says so
    answer = problem(HTTPStatus(error.status_code), error.detail)
    answer.headers.update(error.headers or {})
    return answer


def _unexpected(_request: Request, error: Exception) -> Response:
    logger.error("request failed", exc_info=error)
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the request failed; the log has the reason under its id")


HANDLERS: dict[Any, ExceptionHandler] = {
    **dict.fromkeys(STATUS, _known),
    HTTPException: _http,
    Exception: _unexpected,
}
