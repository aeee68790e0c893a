"""The database's engine: one pool a process, from any of the URLs that hosts give out."""

from sqlalchemy import MetaData, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from worker.errors import EmbarqError

metadata = MetaData()


class DatabaseUnavailable(EmbarqError):
    """Postgres cannot be reached or does not answer."""


def make_engine(url: str, *, size: int = 5) -> AsyncEngine:
    """A pool of at most `size` connections. `postgres://`, as Heroku writes it, is understood."""
    _, _, rest = url.partition("://")
    return create_async_engine(f"postgresql+asyncpg://{rest}", pool_size=size, max_overflow=0, pool_pre_ping=True)


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
