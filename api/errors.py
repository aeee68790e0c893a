"""The platform's errors and their statuses."""

from http import HTTPStatus

from jobs.lookups import Missing
from jobs.services.people import AddressTaken
from worker import EmbarqError


class LinkExpired(EmbarqError):
    """A link to a file has expired, or was never ours."""


class FileGone(EmbarqError):
    """The row of a file exists, but its bytes do not."""


STATUSES: dict[type[Exception], HTTPStatus] = {
    Missing: HTTPStatus.NOT_FOUND,
    LinkExpired: HTTPStatus.FORBIDDEN,
    FileGone: HTTPStatus.GONE,
    AddressTaken: HTTPStatus.CONFLICT,
}
