"""Files that jobs read and make: their bytes in a backend, rows about them, and links that expire."""

import hashlib
import hmac
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from jobs.models import StoredFile
from jobs.storage.backend import Backend
from jobs.storage.folder import MADE

LINK_LIFE = 3600


@dataclass(frozen=True, slots=True)
class FileStore:
    """The files that jobs may read and write. `secret` signs links."""

    backend: Backend
    secret: bytes

    async def keep(
        self,
        session: AsyncSession,
        name: str,
        content_type: str,
        parts: AsyncIterable[bytes],
        *,
        keep: timedelta | None = None,
    ) -> StoredFile:
        """Write a file part by part under a place of its own, and a row about it; kept for `keep`, or without end.

        Raises:
            StoreUnavailable, DatabaseUnavailable: it cannot be written now: the disk is full, or does not answer.
        """
        file = StoredFile(
            place=f"{MADE}/{datetime.now(UTC):%Y-%m}/{uuid.uuid4().hex}",
            name=name,
            content_type=content_type,
            size=0,
            expires_at=None if keep is None else datetime.now(UTC) + keep,
        )
        session.add(file)
        await session.flush()
        file.size = await self.backend.write(session, file, parts)
        await session.flush()
        return file

    async def read(self, session: AsyncSession, file: StoredFile) -> bytes:
        """All bytes of a file, also of one that this transaction has made.

        Raises:
            StoreUnavailable, DatabaseUnavailable: it cannot be read now.
            FileNotFoundError: its bytes are gone.
        """
        return b"".join([part async for part in self.backend.read(file.place, session)])

    def parts(self, place: str) -> AsyncIterator[bytes]:
        """The bytes of a place in parts of a megabyte at most; raises as `read` does, when it is iterated."""
        return self.backend.read(place)

    def local(self, place: str) -> AbstractAsyncContextManager[Path]:
        """A place as a file of this machine, to be read within the block; raises as `read` does."""
        return self.backend.local(place)

    async def remove(self, session: AsyncSession, file: StoredFile) -> None:
        """Remove a file and its row."""
        await self.backend.remove(file.place)
        await session.delete(file)

    async def remove_stray(self, session: AsyncSession, before: datetime) -> int:
        """Remove what transactions that did not commit left behind before that time; how many files."""
        return await self.backend.remove_stray(session, before)

    def link(self, file: StoredFile, *, life: float = LINK_LIFE) -> str:
        """A path of the API under which anyone who has it can download the file, for `life` seconds."""
        until = int(time.time() + life)
        return f"/api/v1/files/{file.id}?until={until}&signature={self.sign(file.id, until)}"

    def sign(self, file_id: int, until: int) -> str:
        """The signature of a link: HMAC-SHA256, in hexadecimal."""
        return hmac.new(self.secret, f"{file_id}:{until}".encode(), hashlib.sha256).hexdigest()

    def allows(self, file_id: int, until: int, signature: str) -> bool:
        """Whether a link is ours and has not expired."""
        known = self.sign(file_id, until).encode()
        return time.time() <= until and hmac.compare_digest(known, signature.encode())


async def whole(data: bytes) -> AsyncIterator[bytes]:
    """Bytes as parts."""
    yield data
