"""The application: routes, middleware, and what lives as long as the process."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Mount, Route

from worker.client import Client
from worker.core.errors import EmbarqError
from worker.core.inline_mode import NOWHERE, is_inline
from worker.database import Database
from worker.database.connections import REQUESTS
from worker.definition.discovery import discover
from worker.definition.registry import registry
from worker.http.bodies import Bodies
from worker.http.budget import Budget
from worker.http.endpoints import bulk, health, jobs, queues, root, schedules, workflows
from worker.http.errors import handlers
from worker.http.keys import BearerKey
from worker.http.known_queues import KnownQueues, declared_queues
from worker.http.middleware import RequestContext, request_of
from worker.http.parts import prepare
from worker.http.schemas import BASE
from worker.http.state import Shared
from worker.observability.logs import configure_logs
from worker.settings import LogFormat, Settings, refuse
from worker.settings.project import find_project
from worker.system.loop_watch import watching
from worker.system.memory import freeze_heap

# Bodies with many jobs may be larger than others.
MANY_JOBS = (f"{BASE}/jobs/bulk", f"{BASE}/workflows")
MANY_TIMES_LARGER = 16

# What a service adds: a block around the process's life, and what its own endpoints find in `request.state`.
Lifespan = Callable[[Shared], AbstractAsyncContextManager[Mapping[str, object]]]


def create_app(
    settings: Settings | None = None,
    *,
    routes: Sequence[BaseRoute] = (),
    lifespan: Lifespan | None = None,
    statuses: Mapping[type[Exception], HTTPStatus] | None = None,
    keyless: Sequence[BaseRoute] = (),
) -> Starlette:
    """The application for these settings, or for those of the project in the current folder.

    `routes`: a service's own, with whole paths; they come before ours. `statuses`: how errors of its own are answered.
    `keyless`: those of its routes that are served without a key, as they authenticate callers in another way.

    Raises:
        SettingsMissing: something that it must not serve without is not set.
        EmbarqError: REDIS_URL is not set: `embarq dev` starts a private Redis and sets it.
    """
    settings = settings or find_project().load_settings()
    refuse([*settings.problems(), *settings.api_problems()])
    configure_logs(settings.log_level, as_json=settings.log_format is LogFormat.JSON)
    discover(settings.jobs, registry)
    registry.route(settings.routes)
    prepare()
    larger = dict.fromkeys(MANY_JOBS, settings.max_body * MANY_TIMES_LARGER)
    return Starlette(
        routes=[*routes, *ROUTES],
        middleware=[
            Middleware(RequestContext),
            *_keys(settings, keyless),
            Middleware(Budget),
            Middleware(Bodies, limit=settings.max_body, larger=larger, in_flight=settings.bodies_in_flight),
        ],
        exception_handlers=handlers(statuses or {}),
        lifespan=_life(settings, lifespan),
    )


def _keys(settings: Settings, keyless: Sequence[BaseRoute]) -> list[Middleware]:
    if settings.api_key is None:
        return []
    return [Middleware(BearerKey, key=settings.api_key.get_secret_value(), keyless=(*KEYLESS, *keyless))]


def _life(
    settings: Settings, own: Lifespan | None
) -> Callable[[Starlette], AbstractAsyncContextManager[dict[str, Any]]]:
    @asynccontextmanager
    async def life(_app: Starlette) -> AsyncIterator[dict[str, Any]]:
        async with AsyncExitStack() as stack:
            shared = await stack.enter_async_context(_open(settings))
            added = await stack.enter_async_context(own(shared)) if own is not None else {}
            freeze_heap()
            await stack.enter_async_context(watching(settings.loop_blocked, request_of))
            yield {"shared": shared, **added}

    return life


# Load balancers request these, and have no key.
KEYLESS: tuple[BaseRoute, ...] = (Route("/health/live", health.live), Route("/health/ready", health.ready))
ROUTES: tuple[BaseRoute, ...] = (
    Mount(
        BASE,
        routes=[
            Route("/jobs", jobs.create_job, methods=["POST"]),
            Route("/jobs", jobs.list_jobs),
            Route("/jobs/bulk", bulk.create_jobs, methods=["POST"]),
            Route("/jobs/{id}", jobs.show_job),
            Route("/jobs/{id}/progress", jobs.show_progress),
            Route("/jobs/{id}/result", jobs.show_result),
            Route("/jobs/{id}/why", jobs.explain),
            Route("/jobs/{id}/cancel", jobs.cancel_job, methods=["POST"]),
            Route("/definitions", jobs.list_definitions),
            Route("/queues", queues.list_queues),
            Route("/queues/{name}/pause", queues.pause, methods=["POST"]),
            Route("/queues/{name}/resume", queues.resume, methods=["POST"]),
            Route("/queues/{name}/jobs", queues.purge, methods=["DELETE"]),
            Route("/schedules", schedules.list_schedules),
            Route("/schedules", schedules.create, methods=["POST"]),
            Route("/schedules/{name}", schedules.show),
            Route("/schedules/{name}", schedules.drop, methods=["DELETE"]),
            Route("/schedules/{name}/pause", schedules.pause, methods=["POST"]),
            Route("/schedules/{name}/resume", schedules.resume, methods=["POST"]),
            Route("/schedules/{name}/run", schedules.run, methods=["POST"]),
            Route("/workflows", workflows.start, methods=["POST"]),
            Route("/workflows/{id}", workflows.show),
            Route("/workflows/{id}/cancel", workflows.cancel, methods=["POST"]),
            Route("/workflows/{id}/retry", workflows.retry, methods=["POST"]),
        ],
    ),
    Route("/", root.root),
    Route("/health/workers", health.workers),
    *KEYLESS,
)


@asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[Shared]:
    """Open what the process shares. Nothing here needs Redis to be available yet."""
    if settings.redis_url is None and not is_inline():
        raise EmbarqError("REDIS_URL must be set; `embarq dev` starts a private Redis and sets it")
    async with AsyncExitStack() as stack:
        opened = Client.open(
            settings.redis_url or NOWHERE, verify_tls=settings.redis_tls_verify, max_arguments=settings.max_arguments
        )
        client = await stack.enter_async_context(opened)
        client.inspector = client.inspector.unread()
        database = await stack.enter_async_context(Database.open(settings.database_url, patience=REQUESTS))
        declared = declared_queues(registry, settings.routes, settings.queues)
        stack.enter_context(registry.bound_to(client))
        yield Shared(
            client=client,
            registry=registry,
            queues=KnownQueues(client, declared, is_open=settings.open_queues),
            largest_job=settings.max_body,
            database=database,
        )
