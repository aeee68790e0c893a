"""Work on files."""

import hashlib
from pathlib import Path
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from jobs.storage import FileStore
from worker import Context, job

LINES_PER_REPORT = 100


class FileReport(TypedDict):
    """What was found in a file: counts, and the digest of its bytes in hexadecimal."""

    lines: int
    words: int
    bytes: int
    sha256: str


@job()
def process_large_file(ctx: Context, path: Annotated[str, Field(min_length=1, max_length=500)]) -> FileReport:
    """Read a file of the store line by line in a thread, with progress every 100 lines.

    `path` is relative to the folder of files. It only reads, so a second run is harmless.
    """
    file = ctx.resource(FileStore).path(path)
    total = _count_lines(file)
    digest = hashlib.sha256()
    lines = words = size = 0
    ctx.progress(0, total)
    with file.open("rb") as stream:
        for lines, line in enumerate(stream, start=1):
            digest.update(line)
            words += len(line.split())
            size += len(line)
            if lines % LINES_PER_REPORT == 0:
                ctx.progress(lines, total, f"line {lines} of {total}")
    ctx.progress(lines, total, "done")
    return {"lines": lines, "words": words, "bytes": size, "sha256": digest.hexdigest()}


def _count_lines(file: Path) -> int:
    with file.open("rb") as stream:
        return sum(1 for _ in stream)
