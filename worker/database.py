"""The database: one pool a process, from any of the URLs that hosts give out; a session a unit of work."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from sqlalchemy import MetaData, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from worker.errors import EmbarqError

metadata = MetaData()

POOL_SIZE = 10
WAIT_FOR_CONNECTION = 60.0


class DatabaseUnavailable(EmbarqError):
    """Postgres cannot be reached or does not answer, or no database is set."""


def make_engine(url: str, *, size: int = 5) -> AsyncEngine:
    """A pool of at most `size` connections, for which callers queue. `postgres://`, as Heroku writes it, will do."""
    _, _, rest = url.partition("://")
    return create_async_engine(
        f"postgresql+asyncpg://{rest}",
        pool_size=size,
        max_overflow=0,
        pool_pre_ping=True,
        pool_timeout=WAIT_FOR_CONNECTION,
    )


class Database:
    """A process's way to Postgres. A session takes a connection when it first asks something, and gives it back at its
    end: a hundred running jobs share ten, in turn."""

    def __init__(self, engine: AsyncEngine | None) -> None:
        self._engine = engine

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str | None, *, size: int = POOL_SIZE) -> AsyncIterator[Self]:
        """The database at a URL; without one, each use says that there is none."""
        if url is None:
            yield cls(None)
            return
        engine = make_engine(url, size=size)
        try:
            yield cls(engine)
        finally:
            await engine.dispose()

    @property
    def is_set(self) -> bool:
        """Whether there is a database at all."""
        return self._engine is not None

    @property
    def engine(self) -> AsyncEngine:
        """The pool.

        Raises:
            DatabaseUnavailable: no database is set.
        """
        if self._engine is None:
            raise DatabaseUnavailable("DATABASE_URL is not set")
        return self._engine

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """A session in a transaction: committed when the block ends well, rolled back when it raises.

        Raises:
            DatabaseUnavailable: no database is set.
        """
        async with AsyncSession(self.engine, expire_on_commit=False) as session, session.begin():
            yield session


async def ping(engine: AsyncEngine) -> None:
    """Ask the database for a sign of life.

    Raises:
        DatabaseUnavailable: there is none.
    """
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    except (SQLAlchemyError, OSError) as error:
        raise DatabaseUnavailable(f"Postgres is not available: {error}") from error
