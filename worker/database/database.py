"""The database: one pool per process, from any form of URL that hosts give out; one session per unit of work."""

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
    """Postgres cannot be reached or does not answer. The driver's error is in the log, not in the message."""


class DatabaseNotSet(EmbarqError):
    """There is no database: `DATABASE_URL` is not set."""


def make_engine(url: str, *, size: int = 5, patience: Patience = JOBS) -> AsyncEngine:
    """A pool of at most `size` connections, for which callers queue. `postgres://`, as on Heroku, is accepted."""
    _, _, rest = url.partition("://")
    connector = Connector(patience)
    engine = create_async_engine(
        f"postgresql+asyncpg://{rest}",
        pool_size=size,
        max_overflow=0,  # never above `size`: Postgres bounds its connections for all processes together
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
        logger.warning("postgres is unavailable", reason=next(iter(str(error).splitlines()), type(error).__name__))
        raise DatabaseUnavailable("Postgres is not available") from error


class Database:
    """A process's access to Postgres. A session takes a connection for its first statement, and returns it at its end:
    a hundred running jobs share ten, in turn."""

    def __init__(self, engine: AsyncEngine | None) -> None:
        self._engine = engine

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str | None, *, size: int = POOL_SIZE, patience: Patience = JOBS) -> AsyncIterator[Self]:
        """The database at a URL; without one, each use raises `DatabaseNotSet`."""
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
            raise DatabaseNotSet("DATABASE_URL must be set for this")
        return self._engine

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """A session in a transaction: committed at the end of the block, rolled back when it raises.

        Raises:
            DatabaseNotSet: no database is set.
            DatabaseUnavailable: Postgres is or became unavailable. If that was at the commit, it may have happened.
        """
        engine = self.engine
        with unavailable_when_away():
            # Objects stay readable after the commit: to load an expired attribute again needs I/O, which asyncio's
            # sessions cannot do on attribute access.
            async with AsyncSession(engine, expire_on_commit=False) as session, session.begin():
                yield session


async def ping(engine: AsyncEngine) -> None:
    """Check that the database answers.

    Raises:
        DatabaseUnavailable: it does not.
    """
    with unavailable_when_away():
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
