"""What the endpoints share, made once a process."""

from dataclasses import dataclass
from typing import cast

from starlette.requests import Request

from api.known_queues import KnownQueues
from api.stand_ins import MessageBox
from jobs.providers import SmsProvider
from jobs.storage import FileStore
from worker.client import Client
from worker.database import Database
from worker.registry import Registry


@dataclass(frozen=True, slots=True)
class Shared:
    """The process's client of the queue, its jobs, the queues they may go to, database, files, and SMS provider.

    `largest_job`: bytes that a job in a larger request may take. `contacts` keeps what the contact form got, `boxes`
    what each stand-in did; `troubles` are the answers that a stand-in is to give next.
    """

    client: Client
    registry: Registry
    queues: KnownQueues
    largest_job: int
    database: Database
    store: FileStore
    sms: SmsProvider
    contacts: MessageBox
    boxes: dict[str, MessageBox]
    troubles: dict[str, list[int]]


def shared(request: Request) -> Shared:
    """What the request's process shares."""
    return cast(Shared, request.state.shared)
