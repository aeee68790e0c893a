"""Where a registry's calls go, and what is loaded for that."""

import os
import subprocess
import sys
from typing import Any

import pytest

from worker import Call, Client, Registry


class Notes:
    """An outbox that only writes down what it was given."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    async def put(self, session: Any, call: Call[Any]) -> str:
        self.taken.append(f"{session}: {call.definition.name}")
        return "noted"


def printed_by(program: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    command, variables = [sys.executable, "-c", program], os.environ | environment
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=variables)
    return ended.stdout + ended.stderr


async def test_calls_of_a_transaction_go_where_the_client_says_and_to_the_table_without(
    registry: Registry, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    @registry.job()
    async def work() -> None: ...

    table, own = Notes(), Notes()
    monkeypatch.setattr(Registry, "table", table)
    assert await work.enqueue_in("unbound") == "noted"
    with registry.bound_to(client):
        assert await work.enqueue_in("plain client") == "noted"
        monkeypatch.setattr(client, "outbox", own)
        assert await work.options(id="x").enqueue_in("own outbox") == "noted"
    assert (table.taken, own.taken) == (["unbound: work", "plain client: work"], ["own outbox: work"])


def test_who_declares_and_enqueues_jobs_loads_no_database() -> None:
    program = "import sys, worker.public, worker.connecting; print({'sqlalchemy', 'asyncpg'} & set(sys.modules))"
    assert printed_by(program) == "set()\n"


def test_producers_load_no_private_servers() -> None:
    program = "import sys\nfrom worker import Client\nprint([name for name in sys.modules if 'worker.dev' in name])"
    assert printed_by(program) == "[]\n"


def test_inline_mode_without_what_runs_jobs_says_what_to_import() -> None:
    program = (
        "import asyncio\n"
        "from worker.client import Client\n"
        "async def main():\n"
        "    async with Client.open('redis://127.0.0.1'): ...\n"
        "asyncio.run(main())"
    )
    assert "import what you need from `worker`" in printed_by(program, EMBARQ_INLINE="1")
    told = printed_by("import worker.public\n" + program, EMBARQ_INLINE="1")
    assert told == ""
