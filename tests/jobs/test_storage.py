"""Files in the database: whole, in bounded memory, one with their rows."""

import hashlib
import tracemalloc
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from jobs.models import FilePart, StoredFile
from jobs.storage import FileStore, InPostgres, postgres, whole
from worker.database import Database

MEGABYTE = 2**20


@pytest.fixture
def database(migrated: AsyncEngine) -> Database:
    return Database(migrated)


@pytest.fixture
def store(database: Database) -> FileStore:
    return FileStore(InPostgres(database), b"secret")


async def kept(store: FileStore, database: Database, parts: AsyncIterator[bytes]) -> StoredFile:
    async with database.session() as session:
        return await store.keep(session, "a.bin", "application/octet-stream", parts)


async def count(database: Database, table: type[FilePart] | type[StoredFile]) -> int:
    async with database.session() as session:
        return await session.scalar(select(func.count()).select_from(table)) or 0


@pytest.mark.parametrize("size", [0, 1, postgres.PART - 1, postgres.PART, postgres.PART + 1, 3 * postgres.PART])
async def test_what_was_written_is_read(store: FileStore, database: Database, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    file = await kept(store, database, whole(data))
    assert file.size == size
    assert b"".join([part async for part in store.parts(file.place)]) == data
    async with store.local(file.place) as copy:
        assert copy.read_bytes() == data
    assert not copy.exists()


@pytest.mark.timeout(300)
async def test_large_file_takes_little_memory(store: FileStore, database: Database) -> None:
    size, wrote, read = 48 * MEGABYTE, hashlib.sha256(), hashlib.sha256()

    async def uneven() -> AsyncIterator[bytes]:
        left = size
        while left:
            part = wrote.copy().digest() * (min(left, 100_000 * 32) // 32)
            wrote.update(part)
            left -= len(part)
            yield part

    tracemalloc.start()
    try:
        file = await kept(store, database, uneven())
        async for part in store.parts(file.place):
            read.update(part)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (file.size, read.digest()) == (size, wrote.digest())
    assert most < 16 * MEGABYTE


async def test_slow_reader_holds_no_connection(store: FileStore, database: Database, migrated: AsyncEngine) -> None:
    file = await kept(store, database, whole(bytes(2 * postgres.PART)))
    parts = store.parts(file.place)
    await anext(parts)
    assert "Current Checked out connections: 0" in migrated.pool.status()
    await anext(parts)
    with pytest.raises(StopAsyncIteration):
        await anext(parts)


async def test_parts_come_and_go_with_their_row(store: FileStore, database: Database) -> None:
    async with database.session() as session:
        file = await store.keep(session, "a.bin", "text/plain", whole(b"x" * 2 * postgres.PART))
        assert len(await store.read(session, file)) == 2 * postgres.PART  # its own transaction sees it
        with pytest.raises(FileNotFoundError):
            await anext(store.parts(file.place))
        await session.rollback()
    assert (await count(database, StoredFile), await count(database, FilePart)) == (0, 0)
    file = await kept(store, database, whole(b"x" * 2 * postgres.PART))
    parts = store.parts(file.place)
    await anext(parts)
    async with database.session() as session:
        await session.execute(delete(StoredFile))
    assert await count(database, FilePart) == 0
    with pytest.raises(FileNotFoundError, match=file.place):  # never a file that ends early as if it were whole
        await anext(parts)
