"""Work on files."""

import hashlib
import io
from collections.abc import AsyncIterator
from typing import Annotated

from anyio import to_thread
from pydantic import Field
from typing_extensions import TypedDict

from jobs.storage import FileStore
from worker import Context, injected, job

LINES_PER_REPORT = 100


class FileReport(TypedDict):
    """What was found in a file: counts, and the digest of its bytes in hexadecimal."""

    lines: int
    words: int
    bytes: int
    sha256: str


@job()
async def process_large_file(
    ctx: Context, path: Annotated[str, Field(min_length=1, max_length=500)], store: FileStore = injected
) -> FileReport:
    """Read a file of the store part by part, each in a thread, with progress every 100 lines.

    `path` is its place in the store. It only reads, so a second run is harmless.
    """
    total = await _count_lines(store.parts(path))
    ctx.progress(0, total)
    reading = _Reading(ctx, total)
    async for part in store.parts(path):
        await to_thread.run_sync(reading.take, part)
    return reading.report()


async def _count_lines(parts: AsyncIterator[bytes]) -> int:
    lines, last = 0, b"\n"
    async for part in parts:
        lines += part.count(b"\n")
        last = part[-1:]
    return lines + (last != b"\n")


class _Reading:
    """What is known of a file so far, whatever the sizes of its parts and its lines."""

    def __init__(self, ctx: Context, total: int) -> None:
        self._ctx = ctx
        self._total = total
        self._digest = hashlib.sha256()
        self._lines = self._words = self._size = 0
        self._in_line = self._in_word = False

    def take(self, part: bytes) -> None:
        """Count the next part, line by line."""
        for piece in io.BytesIO(part):
            self._look_at(piece)
            if self._in_line:
                continue
            self._lines += 1
            if self._lines % LINES_PER_REPORT == 0:
                self._ctx.progress(self._lines, self._total, f"line {self._lines} of {self._total}")

    def _look_at(self, piece: bytes) -> None:
        self._digest.update(piece)
        self._size += len(piece)
        goes_on = self._in_word and not piece[:1].isspace()
        self._words += len(piece.split()) - goes_on
        self._in_word = not piece[-1:].isspace()
        self._in_line = not piece.endswith(b"\n")

    def report(self) -> FileReport:
        """What was found, at the end of the file."""
        lines = self._lines + self._in_line
        self._ctx.progress(lines, self._total, "done")
        return {"lines": lines, "words": self._words, "bytes": self._size, "sha256": self._digest.hexdigest()}
