"""The resources that are injected into jobs, by type: opened once per worker, except the session, once per try."""

import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TypeVar

import httpx
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession

from jobs.cache import Cache
from jobs.mail import Mailer
from jobs.providers import PROVIDER_TIMEOUT, Crm, PaymentProvider, Service, SmsProvider, Warehouse
from jobs.storage import FileStore, Folder, InPostgres
from settings import Files, Settings, load_settings
from worker import Context, resource
from worker.broker.opening import make_pool
from worker.database import Database
from worker.system.private import make_private

S = TypeVar("S", bound=Service)

FILE_CONNECTIONS = 3  # of a worker, for jobs that read files; what they write goes through their sessions


@resource
async def database() -> AsyncIterator[Database]:
    """The database at `DATABASE_URL`; without one, only the jobs that use it fail."""
    settings = load_settings()
    async with Database.open(settings.database_url, size=settings.database_pool) as opened:
        yield opened


@resource
async def session(ctx: Context) -> AsyncIterator[AsyncSession]:
    """A session for one try: committed when the job returns, rolled back when it raises."""
    async with ctx.resource(Database).session() as opened:
        yield opened


async def _service(kind: type[S], url: str) -> AsyncIterator[S]:
    async with httpx.AsyncClient(timeout=PROVIDER_TIMEOUT) as http:
        yield kind(http, url)


@resource
def sms_provider() -> AsyncIterator[SmsProvider]:
    """The provider at `EMBARQ_SMS_URL`, or the stand-in of development."""
    return _service(SmsProvider, load_settings().sms_endpoint)


@resource
def payment_provider() -> AsyncIterator[PaymentProvider]:
    """The provider at `EMBARQ_PAYMENT_URL`, or the stand-in of development."""
    return _service(PaymentProvider, load_settings().service_url("payment"))


@resource
def crm() -> AsyncIterator[Crm]:
    """The system at `EMBARQ_CRM_URL`, or the stand-in of development."""
    return _service(Crm, load_settings().service_url("crm"))


@resource
def warehouse() -> AsyncIterator[Warehouse]:
    """The system at `EMBARQ_WAREHOUSE_URL`, or the stand-in of development."""
    return _service(Warehouse, load_settings().service_url("warehouse"))


@resource
async def mailer() -> AsyncIterator[Mailer]:
    """The mail server at `EMBARQ_SMTP_URL`, or the catcher of development."""
    settings = load_settings()
    yield Mailer(settings.smtp_endpoint, settings.mail_from)


@resource
async def cache() -> AsyncIterator[Cache]:
    """Keys of their own in the Redis at `REDIS_URL`."""
    url = load_settings().redis_url
    if url is None:
        yield Cache(None)
        return
    async with Redis(connection_pool=make_pool(url, size=5)) as redis:
        yield Cache(redis)


@resource
async def file_store() -> AsyncIterator[FileStore]:
    """The files of jobs, where `EMBARQ_FILES` says."""
    settings = load_settings()
    async with Database.open(settings.database_url, size=FILE_CONNECTIONS) as opened:
        yield open_store(settings, opened)


def open_store(settings: Settings, opened: Database) -> FileStore:
    """The store of files: in the database, or in the folder `files` below `EMBARQ_DATA_DIR`.

    The secret that signs its links is `EMBARQ_SECRET`, or one that is kept beside the folder.
    """
    secret = (settings.secret or _kept_secret(settings.data_dir / "secret")).encode()
    if settings.files_in is Files.POSTGRES:
        return FileStore(InPostgres(opened), secret)
    root = settings.data_dir / "files"
    make_private(root)
    return FileStore(Folder(root), secret)


def _kept_secret(path: Path) -> str:
    """A secret in a file that only its owner may read. Processes that start together agree on one: it is written to a
    draft, and `link` creates the name only if it does not exist."""
    if not path.exists():
        make_private(path.parent)
        with NamedTemporaryFile("w", dir=path.parent) as draft:
            draft.write(secrets.token_hex(32))
            draft.flush()
            with contextlib.suppress(FileExistsError):
                os.link(draft.name, path)
    return path.read_text()
