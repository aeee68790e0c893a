"""Is the process alive, can it serve, does anybody run jobs?"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import Response

from worker.client import Client
from worker.core.errors import BrokerUnavailable
from worker.database import Database, DatabaseUnavailable, ping
from worker.http.errors import RETRY_AFTER_SECONDS
from worker.http.json import JsonResponse
from worker.http.state import shared

logger = structlog.stdlib.get_logger("embarq.api")

LONGEST_LOOK = 5.0  # seconds for each server: less than the 10 s or more that load balancers wait for an answer
OK, NOT_SET = "ok", "not set"


@dataclass(frozen=True, slots=True)
class _Finding:
    """How a server is: `ok`, `not set`, or what is wrong with it."""

    state: str
    warnings: list[str] = field(default_factory=list)


async def live(_request: Request) -> Response:
    """`GET /health/live`: the process answers."""
    return JsonResponse({"status": "ok"})


async def ready(request: Request) -> Response:
    """`GET /health/ready`: Redis answers, and the database where one is set; 503 otherwise, naming each.

    `warnings` say why Redis may lose jobs.
    """
    here = shared(request)
    redis, database = await asyncio.gather(
        _in_time("Redis", _redis(here.client)), _in_time("Postgres", _database(here.database))
    )
    serves = all(finding.state in {OK, NOT_SET} for finding in (redis, database))
    record = {"status": "ok" if serves else "unavailable", "redis": redis.state, "database": database.state}
    wait = {} if serves else {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return JsonResponse(record | {"warnings": redis.warnings}, 200 if serves else 503, headers=wait)


async def _in_time(server: str, look: Coroutine[Any, Any, _Finding]) -> _Finding:
    """What a check finds, or that the server is not available. A check that hangs is cancelled and not waited for:
    closing its connection may hang, too."""
    looking = asyncio.create_task(look)
    done, _ = await asyncio.wait({looking}, timeout=LONGEST_LOOK)
    if not done:
        looking.cancel()
        looking.add_done_callback(lambda task: task.cancelled() or task.exception())
        logger.warning("server is not ready", server=server, reason=f"no answer within {LONGEST_LOOK} s")
        return _Finding(f"{server} is not available: no answer within {LONGEST_LOOK:.0f} s")
    try:
        return looking.result()
    except (BrokerUnavailable, DatabaseUnavailable) as error:
        logger.warning("server is not ready", server=server, reason=str(error))
        return _Finding(f"{server} is not available")


async def _redis(client: Client) -> _Finding:
    server = await client.inspector.server()
    return _Finding(server.problem or OK, server.warnings)


async def _database(database: Database) -> _Finding:
    if not database.is_set:
        return _Finding(NOT_SET)
    await ping(database.engine)
    return _Finding(OK)


async def workers(request: Request) -> Response:
    """`GET /health/workers`: the live workers; 503 when there is none."""
    records = await shared(request).client.workers()
    found = [{"id": r.id, "queues": r.queues, "concurrency": r.concurrency, "running": r.running} for r in records]
    status = "ok" if found else "unavailable"
    return JsonResponse({"status": status, "workers": found}, 200 if found else 503)
