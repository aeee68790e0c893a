"""What the endpoints share, made once a process."""

from dataclasses import dataclass
from typing import cast

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import Request

from api.stand_ins import MessageBox
from jobs.resources import SmsProvider
from worker.client import Client
from worker.definitions import Registry


@dataclass(frozen=True, slots=True)
class Shared:
    """The process's client of the queue, its jobs, its database if there is one, and its SMS provider.

    `box` keeps what the SMS stand-in got, `contacts` what the contact form did.
    """

    client: Client
    registry: Registry
    database: AsyncEngine | None
    sms: SmsProvider
    box: MessageBox
    contacts: MessageBox


def shared(request: Request) -> Shared:
    """What the request's process shares."""
    return cast(Shared, request.state.shared)
