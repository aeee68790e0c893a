"""Files that jobs read and make: a folder, rows about what is in it, and links that expire."""

import errno
import hashlib
import hmac
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from anyio import open_file
from sqlalchemy.ext.asyncio import AsyncSession

from jobs.models import StoredFile
from worker import EmbarqError, ResourceUnavailable

LINK_LIFE = 3600

# What a disk, or a file system over a network, says when it cannot serve now.
AWAY = {errno.EIO, errno.ENODEV, errno.ENOSPC, errno.EROFS, errno.ESTALE, errno.EDQUOT, errno.ETIMEDOUT}


class FileOutsideStore(EmbarqError):
    """A path leads out of the folder of files."""


class StoreUnavailable(ResourceUnavailable):
    """The folder of files cannot be written or read at present."""


@contextmanager
def _unavailable_when_away() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in AWAY:
            raise
        raise StoreUnavailable(f"the store of files is not available: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class FileStore:
    """The folder whose files jobs may read and write. `secret` signs links."""

    root: Path
    secret: bytes = b""

    def path(self, name: str) -> Path:
        """The file of this name.

        Raises:
            FileOutsideStore: the name leads out of the folder.
        """
        path = (self.root / name).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise FileOutsideStore(f"{name!r} is not inside the folder of files")
        return path

    async def keep(
        self,
        session: AsyncSession,
        name: str,
        content_type: str,
        parts: AsyncIterable[bytes],
        *,
        keep: timedelta | None = None,
    ) -> StoredFile:
        """Write a file part by part under a place of its own, and a row about it; kept for ever, or for so long.

        The file is renamed when it is whole. If the caller's transaction does not commit, it is left for
        `cleanup_old_files`, which removes what has no row.

        Raises:
            StoreUnavailable: it cannot be written now: the disk is full, or does not answer.
        """
        place = f"made/{datetime.now(UTC):%Y-%m}/{uuid.uuid4().hex}"
        target = self.path(place)
        with _unavailable_when_away():
            size = await _write(target, parts)
        stored = StoredFile(
            place=place,
            name=name,
            content_type=content_type,
            size=size,
            expires_at=None if keep is None else datetime.now(UTC) + keep,
        )
        session.add(stored)
        await session.flush()
        return stored

    async def read(self, file: StoredFile) -> bytes:
        """The bytes of a file.

        Raises:
            StoreUnavailable: it cannot be read now.
        """
        with _unavailable_when_away():
            async with await open_file(self.path(file.place), "rb") as opened:
                return await opened.read()

    def link(self, file: StoredFile, *, life: float = LINK_LIFE) -> str:
        """A path of the API that gives the file to whoever has it, for so many seconds."""
        until = int(time.time() + life)
        return f"/api/v1/files/{file.id}?until={until}&signature={self.sign(file.id, until)}"

    def sign(self, file_id: int, until: int) -> str:
        """The signature of a link: HMAC-SHA256, in hexadecimal."""
        return hmac.new(self.secret, f"{file_id}:{until}".encode(), hashlib.sha256).hexdigest()

    def allows(self, file_id: int, until: int, signature: str) -> bool:
        """Whether a link is ours and has not expired."""
        known = self.sign(file_id, until).encode()
        return time.time() <= until and hmac.compare_digest(known, signature.encode())


async def _write(target: Path, parts: AsyncIterable[bytes]) -> int:
    """Write a file that appears when it is whole; how many bytes it has."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".part")
    size = 0
    try:
        async with await open_file(partial, "wb") as file:
            async for part in parts:
                size += await file.write(part)
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)
    return size


async def whole(data: bytes) -> AsyncIterator[bytes]:
    """Bytes as parts."""
    yield data
