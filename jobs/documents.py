"""Images, documents and imports. What is made along the way is always removed."""

import csv
import io
import tempfile
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from anyio import open_file, to_thread
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import TypedDict

from jobs.models import Student, User
from jobs.pdf import keep_pdf
from jobs.storage import FileStore
from worker import Context, Permanent, injected, job

KEPT = timedelta(days=7)
MOST_PIXELS = 50_000_000
Place = Annotated[str, Field(min_length=1, max_length=500)]


class Unreadable(Permanent):
    """A file is not of the kind that it should be."""


class Made(TypedDict):
    """A file that was made, and a link to it that is valid for an hour."""

    file_id: int
    link: str


async def file_parts(path: Path) -> AsyncIterator[bytes]:
    """A file, a megabyte a part."""
    async with await open_file(path, "rb") as file:
        while part := await file.read(1 << 20):
            yield part


@job(queue="files")
async def resize_image(
    path: Place,
    width: Annotated[int, Field(ge=1, le=10_000)],
    height: Annotated[int, Field(ge=1, le=10_000)],
    session: AsyncSession = injected,
    store: FileStore = injected,
) -> Made:
    """Make a JPEG of an image of the store that fits into a frame. A second run makes another file."""
    with tempfile.TemporaryDirectory(prefix="embarq-") as folder:
        target = Path(folder) / "resized.jpg"
        async with store.local(path) as source:
            await to_thread.run_sync(_resize, source, target, (width, height))
        made = await store.keep(session, f"{Path(path).stem}.jpg", "image/jpeg", file_parts(target), keep=KEPT)
    return {"file_id": made.id, "link": store.link(made)}


def _resize(source: Path, target: Path, size: tuple[int, int]) -> None:
    from PIL import Image, ImageOps, UnidentifiedImageError  # noqa: PLC0415  # loaded by the first who needs it

    try:
        with Image.open(source) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Unreadable(f"{source.name} must have at most {MOST_PIXELS:,} pixels")
            upright = ImageOps.exif_transpose(image).convert("RGB")
            upright.thumbnail(size)
            upright.save(target, "JPEG", quality=85)
    except UnidentifiedImageError as error:
        raise Unreadable(f"{source.name} must be an image") from error


@job(queue="files")
async def convert_document(path: Place, session: AsyncSession = injected, store: FileStore = injected) -> Made:
    """Make a PDF of a text file of the store. A second run makes another file."""
    try:
        lines = (await _text(store, path, "utf-8")).splitlines()
    except UnicodeDecodeError as error:
        raise Unreadable(f"{path} must be text in UTF-8") from error
    values = {"title": Path(path).name, "subtitle": "", "columns": [""], "rows": [[line] for line in lines]}
    made = await keep_pdf(session, store, "report", values, f"{Path(path).stem}.pdf", keep=KEPT)
    return {"file_id": made.id, "link": store.link(made)}


async def _text(store: FileStore, path: str, encoding: str) -> str:
    """A file of the store as text, with its line ends as they are."""
    return b"".join([part async for part in store.parts(path)]).decode(encoding)


class Imported(TypedDict):
    """What became of the lines of a file: rows that were new, that were known, and the numbers of wrong lines."""

    new: int
    known: int
    wrong: list[int]


@job(queue="files", timeout=1800, soft_timeout=1700)
async def import_students(
    ctx: Context, path: Place, session: AsyncSession = injected, store: FileStore = injected
) -> Imported:
    """Read students from a CSV file of the store with the columns name and email. All in one commit.

    A student is known by the address, so a second run adds nobody.
    """
    text = await _text(store, path, "utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    report: Imported = {"new": 0, "known": 0, "wrong": []}
    for number, row in enumerate(rows, start=2):
        name, email = (row.get("name") or "").strip(), (row.get("email") or "").strip().lower()
        if not name or email.count("@") != 1:
            report["wrong"].append(number)
            continue
        report["new" if await _add_student(session, name, email) else "known"] += 1
        ctx.progress(number - 1, len(rows))
    return report


async def _add_student(session: AsyncSession, name: str, email: str) -> bool:
    made = insert(User).values(name=name, email=email).on_conflict_do_nothing().returning(User.id)
    user_id = (await session.execute(made)).scalar()
    if user_id is None:
        user_id = (await session.execute(select(User.id).where(User.email == email))).scalar_one()
    student = insert(Student).values(user_id=user_id).on_conflict_do_nothing().returning(Student.id)
    return (await session.execute(student)).scalar() is not None
