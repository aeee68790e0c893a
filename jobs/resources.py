"""What jobs share: the SMS provider's client and the folder of files."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from sqlalchemy.ext.asyncio import AsyncSession

from settings import load_settings
from worker import Context, EmbarqError, resource
from worker.database import Database

PROVIDER_TIMEOUT = 10.0


class FileOutsideStore(EmbarqError):
    """A path leads out of the folder of files."""


class MessageRefused(EmbarqError):
    """The provider will not send this message, now or later."""


class ProviderUnavailable(EmbarqError):
    """The provider did not answer, or said that it cannot at present; the same request may be sent again."""


@dataclass(frozen=True, slots=True)
class SmsProvider:
    """A client of an HTTP provider of text messages. The provider drops a second request with the same key."""

    http: httpx.AsyncClient
    url: str

    async def send(self, to: str, message: str, message_type: str, *, key: str) -> None:
        """Send one message.

        Raises:
            MessageRefused: the provider answered 4xx.
            ProviderUnavailable: it answered 5xx or 429, or not at all.
        """
        body = {"to": to, "message": message, "message_type": message_type}
        try:
            answer = await self.http.post(self.url, json=body, headers={"Idempotency-Key": key})
        except httpx.TransportError as error:
            raise ProviderUnavailable(f"{self.url} does not answer: {error!r}") from error
        if answer.status_code >= 500 or answer.status_code == 429:
            raise ProviderUnavailable(f"{self.url} answered {answer.status_code}")
        if answer.is_error:
            raise MessageRefused(f"{answer.status_code}: {answer.text[:200]}")


@dataclass(frozen=True, slots=True)
class FileStore:
    """The folder whose files jobs may read."""

    root: Path

    def path(self, name: str) -> Path:
        """The file of this name.

        Raises:
            FileOutsideStore: the name leads out of the folder.
        """
        path = (self.root / name).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise FileOutsideStore(f"{name!r} is not inside the folder of files")
        return path


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


@resource
async def sms_provider() -> AsyncIterator[SmsProvider]:
    """The provider at `EMBARQ_SMS_URL`, or the stand-in of development."""
    settings = load_settings()
    async with httpx.AsyncClient(timeout=PROVIDER_TIMEOUT) as http:
        yield SmsProvider(http, settings.sms_endpoint)


@resource
async def file_store() -> AsyncIterator[FileStore]:
    """The folder `files` below `EMBARQ_DATA_DIR`."""
    root = load_settings().data_dir / "files"
    root.mkdir(parents=True, exist_ok=True)
    yield FileStore(root)
