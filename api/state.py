"""What the platform's endpoints share, made once a process."""

from dataclasses import dataclass
from typing import cast

from starlette.requests import Request

from api.stand_ins import MessageBox
from jobs.providers import SmsProvider
from jobs.storage import FileStore


@dataclass(frozen=True, slots=True)
class Platform:
    """Files and the SMS provider.

    `contacts` keeps what the contact form got, `boxes` what each stand-in did; `troubles` are the answers that a
    stand-in is to give next.
    """

    store: FileStore
    sms: SmsProvider
    contacts: MessageBox
    boxes: dict[str, MessageBox]
    troubles: dict[str, list[int]]


def platform(request: Request) -> Platform:
    """What the request's process shares of the platform."""
    return cast(Platform, request.state.platform)
