"""The database: one pool a process, from any of the URLs that hosts give out; a session a unit of work."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Self

import structlog
from sqlalchemy import MetaData, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from worker.core.errors import EmbarqError, ResourceUnavailable
from worker.database.connections import JOBS, Connector, Patience, is_outage

logger = structlog.stdlib.get_logger("embarq.database")

metadata = MetaData()

POOL_SIZE = 10


class DatabaseUnavailable(ResourceUnavailable):
    """Postgres cannot be reached or does not answer. What its driver said is in the log, and not in the message."""


class DatabaseNotSet(EmbarqError):
    """There is no database: `DATABASE_URL` is not set."""


def make_engine(url: str, *, size: int = 5, patience: Patience = JOBS) -> AsyncEngine:
    """A pool of at most `size` connections, for which callers queue. `postgres://`, as Heroku writes it, will do."""
    _, _, rest = url.partition("://")
    connector = Connector(patience)
    engine = create_async_engine(
        f"postgresql+asyncpg://{rest}",
        pool_size=size,
        max_overflow=0,
        pool_timeout=patience.pool,
        connect_args={
            "async_creator_fn": connector.connect,
            "timeout": patience.connect,
            "command_timeout": patience.answer,
        },
    )
    connector.attach(engine)
    return engine


@contextmanager
def unavailable_when_away() -> Iterator[None]:
    """Turn every error that means "Postgres cannot serve this now" into `DatabaseUnavailable`; others pass."""
    try:
        yield
    except Exception as error:
        if not is_outage(error):
            raise
        logger.warning("postgres is away", reason=next(iter(str(error).splitlines()), type(error).__name__))
        raise DatabaseUnavailable("Postgres is not available at present") from error


class Database:
    """A process's way to Postgres. A session takes a connection when it first asks something, and gives it back at its
    end: a hundred running jobs share ten, in turn."""

    def __init__(self, engine: AsyncEngine | None) -> None:
        self._engine = engine

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str | None, *, size: int = POOL_SIZE, patience: Patience = JOBS) -> AsyncIterator[Self]:
        """The database at a URL; without one, each use says that there is none."""
        if url is None:
            yield cls(None)
            return
        engine = make_engine(url, size=size, patience=patience)
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
            DatabaseNotSet: there is none.
        """
        if self._engine is None:
            raise DatabaseNotSet("DATABASE_URL is not set")
        return self._engine

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """A session in a transaction: committed when the block ends well, rolled back when it raises.

        Raises:
            DatabaseNotSet: no database is set.
            DatabaseUnavailable: Postgres went away, or was. When that was at the commit, it may have happened.
        """
        engine = self.engine
        with unavailable_when_away():
            async with AsyncSession(engine, expire_on_commit=False) as session, session.begin():
                yield session


async def ping(engine: AsyncEngine) -> None:
    """Ask the database for a sign of life.

    Raises:
        DatabaseUnavailable: there is none.
    """
    with unavailable_when_away():
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
