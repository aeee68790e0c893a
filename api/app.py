"""The service: the engine's HTTP API, the learning platform's endpoints, and the stand-ins of development."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import httpx
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route

from api.endpoints import contact, platform, stand_ins
from api.errors import STATUSES
from api.stand_ins import MessageBox
from api.state import Platform
from jobs.providers import PROVIDER_TIMEOUT, SmsProvider
from jobs.resources import open_store
from jobs.seed import seed_development
from settings import Settings, load_settings
from worker import BrokerUnavailable, http
from worker.http import BASE, Shared

PLATFORM: list[BaseRoute] = [
    Route(f"{BASE}/register", platform.register, methods=["POST"]),
    Route(f"{BASE}/password-reset", platform.reset_password, methods=["POST"]),
    Route(f"{BASE}/enrolments", platform.enrol, methods=["POST"]),
    Route(f"{BASE}/courses/{{id:int}}/complete", platform.complete_course, methods=["POST"]),
    Route(f"{BASE}/orders", platform.place_order, methods=["POST"]),
    Route(f"{BASE}/messages/bulk", platform.send_messages, methods=["POST"]),
    Route(f"{BASE}/students/{{id:int}}/report", platform.report_on_student, methods=["POST"]),
    Route(f"{BASE}/exports/students", platform.export_students, methods=["POST"]),
    Route(f"{BASE}/broadcast", platform.broadcast_note, methods=["POST"]),
    Route(f"{BASE}/process", platform.process, methods=["POST"]),
    Route(f"{BASE}/calculate", platform.calculate, methods=["POST"]),
    Route(f"{BASE}/certificates/{{id:int}}/revoke", platform.revoke, methods=["POST"]),
    Route(f"{BASE}/contact", contact.contact, methods=["POST"]),
]
# Keyless: links to files are signed, and the stand-ins serve this machine's workers only.
DOWNLOAD = Route(f"{BASE}/files/{{id:int}}", platform.download)
STAND_INS: list[BaseRoute] = [
    Route("/stand-ins/{service}", stand_ins.take_request, methods=["POST"]),
    Route("/stand-ins/{service}/trouble", stand_ins.make_trouble, methods=["POST"]),
    Route("/stand-ins/{service}", stand_ins.list_requests),
]


def create_app(settings: Settings | None = None) -> Starlette:
    """The application for these settings, or for those of the environment."""
    settings = settings or load_settings()

    @asynccontextmanager
    async def lifespan(shared: Shared) -> AsyncIterator[dict[str, Platform]]:
        async with _open(settings, shared) as opened:
            if settings.seed:
                with suppress(BrokerUnavailable):
                    await seed_development.enqueue()
            yield {"platform": opened}

    keyless = [DOWNLOAD, *(STAND_INS if settings.development else ())]
    return http.create_app(
        settings, routes=[*PLATFORM, *keyless], keyless=keyless, lifespan=lifespan, statuses=STATUSES
    )


@asynccontextmanager
async def _open(settings: Settings, shared: Shared) -> AsyncIterator[Platform]:
    async with AsyncExitStack() as stack:
        outside = await stack.enter_async_context(httpx.AsyncClient(timeout=PROVIDER_TIMEOUT))
        kept = settings.data_dir / "stand-ins"
        boxes = {name: MessageBox(kept / f"{name}.jsonl") for name in (*stand_ins.SERVICES, "mail")}
        if settings.development and settings.smtp_url is None:
            from api.mail_catcher import MailCatcher, catching_mail  # noqa: PLC0415  # not installed in production

            catcher = MailCatcher(boxes["mail"], kept / "mail")
            await stack.enter_async_context(catching_mail(catcher, settings.mail_port))
        yield Platform(
            store=open_store(settings, shared.database),
            sms=SmsProvider(outside, settings.sms_endpoint),
            boxes=boxes,
            troubles={},
            contacts=MessageBox(settings.data_dir / "contacts.jsonl"),
        )
