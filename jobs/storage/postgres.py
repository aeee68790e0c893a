"""Files in the database, in rows of half a megabyte: every process reaches them, also where machines share no disk."""

import errno
import os
import tempfile
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from anyio import open_file
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from jobs.models import FilePart, StoredFile
from worker.database import Database

PART = 512 * 1024  # one row at a time is in memory, in Postgres and here


@dataclass(frozen=True, slots=True)
class InPostgres:
    """A backend whose bytes are rows beside the file's own: written in its transaction, and deleted with it.

    A read outside a session takes a connection for one part at a time, so a slow reader holds none.
    """

    database: Database

    async def write(self, session: AsyncSession, file: StoredFile, parts: AsyncIterable[bytes]) -> int:
        """See `Backend.write`."""
        number = size = 0
        async for data in _of_one_size(parts):
            await session.execute(insert(FilePart.__table__), {"file_id": file.id, "number": number, "data": data})  # type: ignore[arg-type]
            number += 1
            size += len(data)
        return size

    async def read(self, place: str, session: AsyncSession | None = None) -> AsyncIterator[bytes]:
        """See `Backend.read`."""
        async with self._session(session) as own:
            row = select(StoredFile.id, StoredFile.size).where(StoredFile.place == place)
            found = (await own.execute(row)).one_or_none()
        if found is None:
            raise _missing(place)
        number = given = 0
        while given < found.size:
            async with self._session(session) as own:
                part = select(FilePart.data).where(FilePart.file_id == found.id, FilePart.number == number)
                data = await own.scalar(part)
            if not data:  # it was removed while it was read
                raise _missing(place)
            yield data
            number += 1
            given += len(data)

    @asynccontextmanager
    async def local(self, place: str) -> AsyncIterator[Path]:
        """See `Backend.local`. A copy, which is removed at the end."""
        with tempfile.TemporaryDirectory(prefix="embarq-") as folder:
            copy = Path(folder) / (Path(place).name or "file")
            async with await open_file(copy, "wb") as file:
                async for part in self.read(place):
                    await file.write(part)
            yield copy

    async def remove(self, place: str) -> None:
        """See `Backend.remove`. The parts are deleted with the row."""

    async def remove_stray(self, _session: AsyncSession, _before: datetime) -> int:
        """See `Backend.remove_stray`. There are no parts without a row: a foreign key holds them."""
        return 0

    def _session(self, given: AsyncSession | None) -> AbstractAsyncContextManager[AsyncSession]:
        return nullcontext(given) if given is not None else self.database.session()


async def _of_one_size(parts: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in parts of `PART`, except the last one."""
    rest = bytearray()
    async for part in parts:
        rest += part
        start = 0
        while len(rest) - start >= PART:
            yield bytes(rest[start : start + PART])
            start += PART
        del rest[:start]
    if rest:
        yield bytes(rest)


def _missing(place: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), place)
