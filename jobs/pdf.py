"""Documents to print, set by Typst from the sources in `templates/`."""

import json
from datetime import timedelta
from importlib import resources
from typing import Any

from anyio import to_thread
from sqlalchemy.ext.asyncio import AsyncSession

from jobs.models import StoredFile
from jobs.storage import FileStore, whole

TEMPLATES = resources.files("jobs") / "templates"


async def make_pdf(template: str, values: dict[str, Any]) -> bytes:
    """A PDF from `templates/<template>.typ`; values reach it as JSON, never as markup. Runs in a thread."""
    source = (TEMPLATES / f"{template}.typ").read_bytes()
    return await to_thread.run_sync(_compile, source, json.dumps(values))


async def keep_pdf(
    session: AsyncSession,
    store: FileStore,
    template: str,
    values: dict[str, Any],
    name: str,
    *,
    keep: timedelta | None = None,
) -> StoredFile:
    """Make a PDF and put it into the store, for `keep` or without end; see `make_pdf` and `FileStore.keep`."""
    return await store.keep(session, name, "application/pdf", whole(await make_pdf(template, values)), keep=keep)


def _compile(source: bytes, values: str) -> bytes:
    import typst  # noqa: PLC0415  # a whole compiler, which most workers never need

    return bytes(typst.compile(source, sys_inputs={"values": values}))
