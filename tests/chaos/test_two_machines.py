"""The API on one machine and a worker on another: they share Redis and Postgres, over TCP, and no disk."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.chaos.namespaces import PORT, Wire, why_not, wired_redis, within
from tests.support import ROOT, CuttingProxy, eventually
from worker import Client

NO_NAMESPACES = why_not()
POSTGRES_PORT = 5432
API_PORT = 8000
KEY = "k" * 32
CARRIED = {"Authorization": f"Bearer {KEY}"}
SERVICES = {f"EMBARQ_{name}_URL": "http://192.0.2.1" for name in ("SMS", "PAYMENT", "CRM", "WAREHOUSE")}

Wires = tuple[str, list[Wire]]


class Machine:
    """A namespace and a folder of its own, and what runs there in production."""

    def __init__(self, wire: Wire, folder: Path, database: URL) -> None:
        self.wire = wire
        self.folder = folder
        folder.mkdir()
        by_tcp = database.set(host=wire.address, port=POSTGRES_PORT, query={})
        self._environment = {
            "REDIS_URL": f"redis://{wire.address}:{PORT}/0",
            "DATABASE_URL": by_tcp.render_as_string(hide_password=False),
            "EMBARQ_ENV": "production",
            "EMBARQ_DATA_DIR": str(folder / "data"),
            "EMBARQ_API_KEY": KEY,
            "EMBARQ_SECRET": "s" * 32,
            "EMBARQ_SMTP_URL": "smtp://192.0.2.1",
            "EMBARQ_MAIL_FROM": "Platform <platform@mail.test>",
            **SERVICES,
        }

    @contextmanager
    def runs(self, *arguments: str) -> Iterator[None]:
        command = [*self.wire.inside, sys.executable, "-m", "embarq", *arguments]
        with (self.folder / "log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, **self._environment}, stdout=log, stderr=log
            )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(40)

    def ask(self, method: str, path: str, **options: object) -> httpx.Response:
        """An answer of this machine's API, which is asked from a third one."""
        request = partial(httpx.request, method, f"http://{self.wire.own_address}:{API_PORT}{path}", timeout=40)
        return within(self.wire.redis, partial(request, **options))

    def log(self) -> str:
        return (self.folder / "log").read_text()


@pytest.fixture
def wires(tmp_path: Path) -> Iterator[Wires]:
    if NO_NAMESPACES:
        pytest.skip(NO_NAMESPACES)
    with wired_redis(tmp_path, 2) as found:
        yield found


@pytest.fixture
async def machines(
    wires: tuple[str, list[Wire]], migrated: AsyncEngine, tmp_path: Path
) -> AsyncIterator[list[Machine]]:
    """Two, to which one Redis and one Postgres are other machines."""
    _, both = wires
    async with reached_by_tcp(migrated.url, both):
        yield [Machine(wire, tmp_path / f"machine{wire.number}", migrated.url) for wire in both]


@asynccontextmanager
async def reached_by_tcp(database: URL, wires: list[Wire]) -> AsyncIterator[None]:
    """Postgres, which serves a socket of this machine, at the addresses where wires begin."""
    door = CuttingProxy(f"{database.query['host']}/.s.PGSQL.{database.port or POSTGRES_PORT}")
    doors = [within(wire.redis, partial(socket.create_server, (wire.address, POSTGRES_PORT))) for wire in wires]
    async with door.serve(*doors):
        yield


async def exported(api: Machine) -> dict[str, Any]:
    """The job that exports students, once it has ended."""

    async def ask(method: str, path: str, **options: object) -> httpx.Response:
        return await asyncio.to_thread(partial(api.ask, method, path, headers=CARRIED, **options))

    async def serves() -> bool:
        try:
            return (await asyncio.to_thread(api.ask, "GET", "/health/ready")).status_code == 200
        except httpx.TransportError:
            return False

    await eventually(serves, 40)
    assert (await asyncio.to_thread(partial(api.ask, "POST", "/api/v1/exports/students", json={}))).status_code == 401
    posted = await ask("POST", "/api/v1/exports/students", json={})
    assert posted.status_code == 202, api.log()
    ended: dict[str, Any] = (await ask("GET", f"{posted.headers['Location']}?wait=30")).json()
    return ended


@pytest.mark.timeout(180)
async def test_file_made_on_one_machine_is_given_out_by_another(wires: Wires, machines: list[Machine]) -> None:
    api, other = machines
    redis_url, _ = wires
    with api.runs("api", "--host", "0.0.0.0"):
        async with Client.open(redis_url) as client:
            with other.runs("worker", "-Q", "*"):

                async def live() -> bool:
                    return bool(await client.workers())

                await eventually(live, 40)
                made = await exported(api)
        assert made["state"] == "succeeded", other.log()  # the worker is gone now, with its machine
        answer = await asyncio.to_thread(api.ask, "GET", made["result"]["link"])
        assert (answer.status_code, answer.content[:6]) == (200, b"\xef\xbb\xbfid,"), api.log()
        assert "students.csv" in answer.headers["Content-Disposition"]
        for machine in machines:
            assert list(machine.folder.rglob("*")) == [machine.folder / "log"]
