"""Databases of tests: on one Postgres for each process of a test run, whose data are made once in the run."""

import asyncio
import fcntl
import subprocess
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.support import MIGRATIONS
from worker.database import make_engine
from worker.database.migrate import migrate
from worker.dev import private_postgres

EMPTY, WITH_TABLES = "template0", "with_tables"


def copy_data(run: Path, folder: Path) -> None:
    """Put the data of a Postgres that has the database `WITH_TABLES` into `folder`. Whoever comes first in a test run
    makes them, in the run's folder: that takes a second, and each table some more."""
    made = run / "postgres"
    with (run / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (run / "made").exists():
            with private_postgres(made) as url:
                migrate(asyncio.run(create_database(url, EMPTY, WITH_TABLES)), MIGRATIONS)
            (run / "made").touch()
    subprocess.run(["cp", "-a", made, folder], check=True)  # the data may be another user's, who keeps them


async def create_database(server_url: str, template: str, name: str) -> str:
    """Make a database like another one, which nobody may use meanwhile; its URL."""
    server = make_engine(server_url, size=1).execution_options(isolation_level="AUTOCOMMIT")
    async with server.connect() as connection:
        await connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    await server.dispose()
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


@asynccontextmanager
async def new_database(server_url: str, template: str) -> AsyncIterator[AsyncEngine]:
    """A database of a test's own, with a pool."""
    engine = make_engine(await create_database(server_url, template, f"test_{uuid.uuid4().hex[:12]}"))
    yield engine
    await engine.dispose()
