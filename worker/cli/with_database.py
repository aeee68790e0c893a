"""What runs beside a worker where a database is set: only then are its driver and SQLAlchemy loaded."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from worker.client import Client
from worker.core.periodic import BackgroundService
from worker.database import Database
from worker.database.connections import ENGINE
from worker.database.relay import Relay
from worker.history.writer import HistoryWriter
from worker.settings import Settings


@asynccontextmanager
async def services_of(settings: Settings, client: Client, database_url: str) -> AsyncIterator[list[BackgroundService]]:
    """The outbox relay and the writer of the history."""
    async with Database.open(database_url, size=5, patience=ENGINE) as database:
        name = f"{socket.gethostname()}-{os.getpid()}"
        kept = (settings.history_days, settings.history_stream_bytes)
        history = HistoryWriter(database.engine, client.connections, name, *kept)
        yield [Relay(database.engine, client.queue_store), history]
