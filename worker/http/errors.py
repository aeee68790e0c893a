"""Every error's answer: exception → status in one table, written as problem details (RFC 9457)."""

from collections.abc import Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from worker.core.errors import (
    ArgumentProblem,
    BrokerUnavailable,
    CallRefused,
    EmbarqError,
    InvalidArguments,
    InvalidOptions,
    InvalidSchedule,
    InvalidWorkflow,
    JobEnded,
    JobNotFound,
    NotInline,
    NotSerializable,
    ScheduleExists,
    ScheduleNotFound,
    ServerTooOld,
    UnknownJob,
    WorkflowDamaged,
    WorkflowEnded,
    WorkflowNotFound,
)
from worker.core.options import LONGEST_MESSAGE, MOST_PROBLEMS, shortened
from worker.core.suggestions import did_you_mean
from worker.database import DatabaseNotSet, DatabaseUnavailable
from worker.history.reader import InvalidCursor
from worker.http.json import InvalidJson, ProblemResponse
from worker.http.state import shared

logger = structlog.stdlib.get_logger("embarq.api")

RETRY_AFTER_SECONDS = 2
LONGEST_DETAIL = 600
LONGEST_POINTER = 400


class InvalidBody(EmbarqError):
    """The body is JSON, but some fields are missing or wrong."""

    def __init__(self, problems: Sequence[ArgumentProblem]) -> None:
        super().__init__("the body has missing or wrong fields")
        self.problems = tuple(problems)


class BodyTooLarge(EmbarqError):
    """The body, or the part of it that is named, is larger than the limit."""

    def __init__(self, limit: int, part: tuple[str | int, ...] = ()) -> None:
        super().__init__(f"the {'part' if part else 'body'} must have at most {limit:,} bytes")
        self.problems = (ArgumentProblem(part, f"must have at most {limit:,} bytes"),) if part else ()


class BodyTooSlow(EmbarqError):
    """The body did not come in time."""


class TooManyBodies(EmbarqError):
    """The bodies that this process holds leave no room for another."""


class UnknownQueue(EmbarqError):
    """Nobody serves or declares a queue of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no queue {name!r}")


class IdempotencyConflict(EmbarqError):
    """The key was used for another request."""


STATUS: dict[type[Exception], HTTPStatus] = {
    InvalidJson: HTTPStatus.BAD_REQUEST,
    UnknownJob: HTTPStatus.NOT_FOUND,
    UnknownQueue: HTTPStatus.NOT_FOUND,
    JobNotFound: HTTPStatus.NOT_FOUND,
    WorkflowNotFound: HTTPStatus.NOT_FOUND,
    ScheduleNotFound: HTTPStatus.NOT_FOUND,
    BodyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    BodyTooSlow: HTTPStatus.REQUEST_TIMEOUT,
    NotSerializable: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidArguments: HTTPStatus.UNPROCESSABLE_ENTITY,
    CallRefused: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidOptions: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidBody: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidCursor: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidWorkflow: HTTPStatus.UNPROCESSABLE_ENTITY,
    InvalidSchedule: HTTPStatus.UNPROCESSABLE_ENTITY,
    JobEnded: HTTPStatus.CONFLICT,
    WorkflowDamaged: HTTPStatus.CONFLICT,
    WorkflowEnded: HTTPStatus.CONFLICT,
    ScheduleExists: HTTPStatus.CONFLICT,
    IdempotencyConflict: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotInline: HTTPStatus.NOT_IMPLEMENTED,
    BrokerUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    DatabaseUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    ServerTooOld: HTTPStatus.SERVICE_UNAVAILABLE,
    DatabaseNotSet: HTTPStatus.SERVICE_UNAVAILABLE,
    TooManyBodies: HTTPStatus.SERVICE_UNAVAILABLE,
}
# The texts of an outage. The driver's own words, which name hosts and statements, are for the log.
OUTAGES: dict[type[Exception], str] = {
    BrokerUnavailable: "Redis is not available; try again",
    DatabaseUnavailable: "Postgres is not available; try again",
}


def problem(status: HTTPStatus, detail: str, errors: Sequence[ArgumentProblem] = ()) -> ProblemResponse:
    """A problem details answer; each of `errors` points at a field of the body, as in RFC 9457's own example. With 503
    comes `Retry-After` (RFC 9110, 10.2.3)."""
    body: dict[str, Any] = {
        "type": "about:blank",  # the status says it all (RFC 9457, 4.2.1); `title` is its phrase then
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
    }
    if errors:
        body["errors"] = problem_records(errors)
    wait = {"Retry-After": str(RETRY_AFTER_SECONDS)} if status is HTTPStatus.SERVICE_UNAVAILABLE else {}
    return ProblemResponse(body, status.value, headers=wait)


def problem_records(errors: Sequence[ArgumentProblem]) -> list[dict[str, str]]:
    """Problems as clients see them: about twenty at most, none of them long."""
    return [
        {
            "pointer": shortened(error.pointer, LONGEST_POINTER),
            "detail": shortened(error.message, LONGEST_MESSAGE),
        }
        for error in errors[: MOST_PROBLEMS + 1]
    ]


def status_of(error: Exception, table: Mapping[type[Exception], HTTPStatus] = STATUS) -> HTTPStatus:
    """The status of an error whose class, or a base of it, is in the table."""
    return next(table[kind] for kind in type(error).__mro__ if kind in table)


def detail_of(error: Exception) -> str:
    """The text of an error for clients."""
    outage = next((OUTAGES[kind] for kind in type(error).__mro__ if kind in OUTAGES), None)
    return outage or shortened(str(error), LONGEST_DETAIL)


def _known(table: Mapping[type[Exception], HTTPStatus], request: Request, error: Exception) -> Response:
    status = status_of(error, table)
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        logger.warning("request not served", path=request.url.path, reason=str(error))
    hint = did_you_mean(error.name, shared(request).registry.names) if isinstance(error, UnknownJob) else ""
    answer = problem(status, detail_of(error) + hint, getattr(error, "problems", ()))
    if isinstance(error, BodyTooSlow):
        answer.headers["Connection"] = "close"
    return answer


def _disconnected(_request: Request, _error: Exception) -> Response:
    """The client disconnected while it sent its body: nobody reads this answer."""
    return problem(HTTPStatus.BAD_REQUEST, "the body ended early")


def _http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # the table below says so
    answer = problem(HTTPStatus(error.status_code), error.detail)
    answer.headers.update(error.headers or {})
    return answer


def _unexpected(_request: Request, error: Exception) -> Response:
    logger.error("request failed", exc_info=error)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, "the request failed; the log has the reason under its X-Request-ID"
    )


def handlers(own: Mapping[type[Exception], HTTPStatus]) -> dict[Any, ExceptionHandler]:
    """What answers errors: ours, and those of `own` with their statuses."""
    table = {**STATUS, **own}
    return {
        **dict.fromkeys(table, partial(_known, table)),
        HTTPException: _http,
        ClientDisconnect: _disconnected,
        Exception: _unexpected,
    }
