"""Runs the Python of a page as one file in which `await` stands anywhere, beside a worker that knows its jobs.

Started in the page's folder with the blocks' files as arguments; `REDIS_URL` is the Redis.
"""

import ast
import asyncio
import os
import sys
from pathlib import Path
from signal import SIGTERM
from types import CodeType
from typing import Any

from worker import Client, Worker, WorkerConfig, registry

NAMES: dict[str, Any] = {"__name__": "page"}


@registry.job()
async def _documented() -> None:
    """A worker starts with one job at least; the page's are added."""


def read_block(file: str) -> CodeType:
    """A block that may await anywhere."""
    code: CodeType = compile(Path(file).read_text(), file, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return code


async def main(blocks: list[CodeType]) -> None:
    """Run the blocks in their order; a worker runs what they queue."""
    sys.path.insert(0, os.getcwd())
    async with Client.open(os.environ["REDIS_URL"]) as client:
        registry.bind(client)
        worker = Worker(client, registry, WorkerConfig(queues=("*",), schedules=False, grace=1.0))
        working = asyncio.create_task(worker.async_run())
        try:
            for block in blocks:
                awaitable = eval(block, NAMES)  # noqa: S307  # our own documentation
                if awaitable is not None:
                    await awaitable
            registry.check()
        finally:
            worker.handle_sig(SIGTERM)
            await working


if __name__ == "__main__":
    asyncio.run(main([read_block(file) for file in sys.argv[1:]]))
