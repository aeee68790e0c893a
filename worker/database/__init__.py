"""Postgres: the pool and its sessions, and the engine's migrations."""

from worker.database.database import (
    Database,
    DatabaseNotSet,
    DatabaseUnavailable,
    make_engine,
    metadata,
    ping,
    unavailable_when_away,
)
from worker.database.idempotency import once_in

__all__ = [
    "Database",
    "DatabaseNotSet",
    "DatabaseUnavailable",
    "make_engine",
    "metadata",
    "once_in",
    "ping",
    "unavailable_when_away",
]
