"""Files in a folder: for one machine, or one that several machines share."""

import errno
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from anyio import open_file, to_thread
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from jobs.models import StoredFile
from worker import EmbarqError, ResourceUnavailable

PART = 1 << 20
MADE = "made"  # the folder for what jobs have made, and nothing else

# The errors of a disk, or a network file system, that cannot serve now.
AWAY = {errno.EIO, errno.ENODEV, errno.ENOSPC, errno.EROFS, errno.ESTALE, errno.EDQUOT, errno.ETIMEDOUT}


class FileOutsideStore(EmbarqError):
    """A path leads out of the folder of files."""


class StoreUnavailable(ResourceUnavailable):
    """The folder of files cannot be written or read now."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A backend whose places are paths below `root`. A file appears there when it is complete.

    If the transaction of its row does not commit, it is left behind, for `remove_stray`.
    """

    root: Path

    def path(self, place: str) -> Path:
        """The file of this place.

        Raises:
            FileOutsideStore: it leads out of the folder.
        """
        path = (self.root / place).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise FileOutsideStore(f"a path must be inside the folder of files, and {place!r} is not")
        return path

    async def write(self, _session: AsyncSession, file: StoredFile, parts: AsyncIterable[bytes]) -> int:
        """See `Backend.write`."""
        with _unavailable_when_away():
            return await _write(self.path(file.place), parts)

    async def read(self, place: str, _session: AsyncSession | None = None) -> AsyncIterator[bytes]:
        """See `Backend.read`."""
        with _unavailable_when_away():
            async with await open_file(self.path(place), "rb") as opened:
                while part := await opened.read(PART):
                    yield part

    @asynccontextmanager
    async def local(self, place: str) -> AsyncIterator[Path]:
        """See `Backend.local`."""
        yield self.path(place)

    async def remove(self, place: str) -> None:
        """See `Backend.remove`."""
        with _unavailable_when_away():
            await to_thread.run_sync(partial(self.path(place).unlink, missing_ok=True))

    async def remove_stray(self, session: AsyncSession, before: datetime) -> int:
        """See `Backend.remove_stray`."""
        known = set((await session.scalars(select(StoredFile.place))).all())
        with _unavailable_when_away():
            return await to_thread.run_sync(self._remove_stray, known, before.timestamp())

    def _remove_stray(self, known: set[str], before: float) -> int:
        removed = 0
        for path in (self.root / MADE).rglob("*"):
            if path.is_file() and str(path.relative_to(self.root)) not in known and path.stat().st_mtime < before:
                path.unlink(missing_ok=True)
                removed += 1
        return removed


async def _write(target: Path, parts: AsyncIterable[bytes]) -> int:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial_file = target.with_suffix(".part")
    size = 0
    try:
        async with await open_file(partial_file, "wb") as file:
            async for part in parts:
                size += await file.write(part)
        partial_file.rename(target)
    finally:
        partial_file.unlink(missing_ok=True)
    return size


@contextmanager
def _unavailable_when_away() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in AWAY:
            raise
        raise StoreUnavailable(f"the store of files is not available: {error.strerror}") from error
