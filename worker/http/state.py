"""What the endpoints share, made once a process."""

from dataclasses import dataclass
from typing import cast

from starlette.requests import Request

from worker.client import Client
from worker.database import Database
from worker.definition.registry import Registry
from worker.http.known_queues import KnownQueues


@dataclass(frozen=True, slots=True)
class Shared:
    """The process's client of the queue, its jobs, the queues they may go to, and the database.

    `largest_job`: bytes that a job in a larger request may take.
    """

    client: Client
    registry: Registry
    queues: KnownQueues
    largest_job: int
    database: Database


def shared(request: Request) -> Shared:
    """What the request's process shares."""
    return cast(Shared, request.state.shared)
