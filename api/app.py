"""The application: routes, middleware, and what lives as long as the process."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TypedDict

import httpx
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount, Route

from api.bodies import Bodies
from api.budget import Budget
from api.endpoints import bulk, contact, health, jobs, platform, queues, schedules, stand_ins, workflows
from api.errors import HANDLERS
from api.known_queues import KnownQueues, declared_queues
from api.mail_catcher import MailCatcher, catching_mail
from api.middleware import RequestContext, request_of
from api.parts import prepare
from api.schemas import BASE
from api.stand_ins import MessageBox
from api.state import Shared
from jobs.providers import PROVIDER_TIMEOUT, SmsProvider
from jobs.resources import open_store
from jobs.seed import seed_development
from settings import LogFormat, Settings, load_settings
from worker.broker.inspect import Inspector
from worker.client import Client
from worker.connections import REQUESTS
from worker.database import Database
from worker.discovery import discover
from worker.errors import BrokerUnavailable, EmbarqError
from worker.loop_watch import watching
from worker.memory import keep_heap
from worker.observability.logs import configure_logs
from worker.registry import registry

# Bodies with many jobs may be larger than others.
MANY_JOBS = (f"{BASE}/jobs/bulk", f"{BASE}/workflows")
MANY_TIMES_LARGER = 16


PLATFORM = [
    Route("/register", platform.register, methods=["POST"]),
    Route("/password-reset", platform.reset_password, methods=["POST"]),
    Route("/enrolments", platform.enrol, methods=["POST"]),
    Route("/courses/{id:int}/complete", platform.complete_course, methods=["POST"]),
    Route("/orders", platform.place_order, methods=["POST"]),
    Route("/messages/bulk", platform.send_messages, methods=["POST"]),
    Route("/students/{id:int}/report", platform.report_on_student, methods=["POST"]),
    Route("/exports/students", platform.export_students, methods=["POST"]),
    Route("/files/{id:int}", platform.download),
    Route("/broadcast", platform.broadcast_note, methods=["POST"]),
    Route("/process", platform.process, methods=["POST"]),
    Route("/calculate", platform.calculate, methods=["POST"]),
    Route("/certificates/{id:int}/revoke", platform.revoke, methods=["POST"]),
]


class Lifespan(TypedDict):
    """What Starlette hands to each request."""

    shared: Shared


def create_app(settings: Settings | None = None) -> Starlette:
    """The application for these settings, or for those of the environment.

    Raises:
        EmbarqError: REDIS_URL is not set: `embarq dev` starts a private Redis and sets it.
    """
    settings = settings or load_settings()
    configure_logs(settings.log_level, as_json=settings.log_format is LogFormat.JSON)
    discover(settings.jobs, registry)
    registry.route(settings.routes)
    prepare()

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[Lifespan]:
        async with _open(settings) as shared:
            keep_heap()
            async with watching(settings.loop_blocked, request_of):
                yield {"shared": shared}

    larger = dict.fromkeys(MANY_JOBS, settings.max_body * MANY_TIMES_LARGER)
    return Starlette(
        routes=_routes(settings),
        middleware=[
            Middleware(RequestContext),
            Middleware(Budget),
            Middleware(Bodies, limit=settings.max_body, larger=larger, in_flight=settings.bodies_in_flight),
        ],
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )


def _routes(settings: Settings) -> list[Route | Mount]:
    routes: list[Route | Mount] = [
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
                *PLATFORM,
                Route("/contact", contact.contact, methods=["POST"]),
            ],
        ),
        Route("/health/live", health.live),
        Route("/health/ready", health.ready),
        Route("/health/workers", health.workers),
    ]
    if settings.development:
        routes += [
            Route("/stand-ins/{service}", stand_ins.take_request, methods=["POST"]),
            Route("/stand-ins/{service}/trouble", stand_ins.make_trouble, methods=["POST"]),
            Route("/stand-ins/{service}", stand_ins.list_requests),
        ]
    return routes


@asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[Shared]:
    """Open what the process shares. Nothing here needs Redis to be there yet."""
    if settings.redis_url is None:
        raise EmbarqError("REDIS_URL is not set; `embarq dev` starts a private Redis")
    async with AsyncExitStack() as stack:
        opened = Client.open(
            settings.redis_url, verify_tls=settings.redis_tls_verify, max_arguments=settings.max_arguments
        )
        client = await stack.enter_async_context(opened)
        client.inspector = Inspector(client, unread=True)
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=PROVIDER_TIMEOUT))
        database = await stack.enter_async_context(Database.open(settings.database_url, patience=REQUESTS))
        declared = declared_queues(registry, settings.routes, settings.queues)
        kept = settings.data_dir / "stand-ins"
        boxes = {name: MessageBox(kept / f"{name}.jsonl") for name in (*stand_ins.SERVICES, "mail")}
        if settings.development and settings.smtp_url is None:
            catcher = MailCatcher(boxes["mail"], kept / "mail")
            await stack.enter_async_context(catching_mail(catcher, settings.mail_port))
        registry.bind(client)
        stack.callback(registry.bind, None)
        if settings.seed:
            with suppress(BrokerUnavailable):
                await seed_development.enqueue()
        yield Shared(
            client=client,
            registry=registry,
            queues=KnownQueues(client, declared, is_open=settings.open_queues),
            largest_job=settings.max_body,
            database=database,
            store=open_store(settings),
            sms=SmsProvider(http, settings.sms_endpoint),
            boxes=boxes,
            troubles={},
            contacts=MessageBox(settings.data_dir / "contacts.jsonl"),
        )
