"""Documents to print, set by Typst from the sources in `templates/`."""

import json
from importlib import resources
from typing import Any

from anyio import to_thread

TEMPLATES = resources.files("jobs") / "templates"


async def make_pdf(template: str, values: dict[str, Any]) -> bytes:
    """A PDF from `templates/<template>.typ`; values reach it as JSON, never as markup. Runs in a thread."""
    source = (TEMPLATES / f"{template}.typ").read_bytes()
    return await to_thread.run_sync(_compile, source, json.dumps(values))


def _compile(source: bytes, values: str) -> bytes:
    import typst  # noqa: PLC0415  # a compiler: loaded by the first who needs it

    return bytes(typst.compile(source, sys_inputs={"values": values}))
