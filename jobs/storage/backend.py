"""Where the bytes of files are kept, as the store sees it."""

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from pathlib import Path
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from jobs.models import StoredFile


class Backend(Protocol):
    """Keeps bytes under places. None of its methods holds more than a few parts of a file in memory.

    Each raises a `ResourceUnavailable` when the disk or database cannot serve now; those that read raise
    `FileNotFoundError` for an empty place.
    """

    async def write(self, session: AsyncSession, file: StoredFile, parts: AsyncIterable[bytes]) -> int:
        """Keep the bytes of a file, whose row is in the session's transaction; how many there are."""
        ...

    def read(self, place: str, session: AsyncSession | None = None) -> AsyncIterator[bytes]:
        """What is kept there, in parts. What a transaction has not committed yet is visible to its session only."""
        ...

    def local(self, place: str) -> AbstractAsyncContextManager[Path]:
        """What is kept there as a file of this machine, to be read for as long as the block runs."""
        ...

    async def remove(self, place: str) -> None:
        """Forget what is kept there, if anything is. Its row is the caller's to remove."""
        ...

    async def remove_stray(self, session: AsyncSession, before: datetime) -> int:
        """Remove what was written before that time and has no row; how many files."""
        ...
