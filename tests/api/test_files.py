"""Downloads, from wherever files lie."""

from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from jobs.models import StoredFile
from jobs.resources import open_store
from jobs.storage import FileStore, whole
from settings import Files, Settings
from tests.api.conftest import serving
from worker.database import Database

CONTENT = bytes(range(256)) * 5000


@pytest.fixture(params=Files)
def settings(
    request: pytest.FixtureRequest, settings_for: Callable[..., Settings], redis_url: str, tables: str
) -> Settings:
    return settings_for(REDIS_URL=redis_url, DATABASE_URL=tables, files=request.param)


@pytest.fixture
async def database(tables: str) -> AsyncIterator[Database]:
    async with Database.open(tables) as opened:
        yield opened


@pytest.fixture
def store(settings: Settings, database: Database) -> FileStore:
    return open_store(settings, database)


@pytest.fixture
async def http(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(settings) as opened:
        yield opened


async def kept(store: FileStore, database: Database) -> StoredFile:
    async with database.session() as session:
        return await store.keep(session, "Zeugnis für Ada.bin", "application/x-test", whole(CONTENT))


async def test_link_gives_the_file(http: httpx.AsyncClient, store: FileStore, database: Database) -> None:
    link = store.link(await kept(store, database))
    answer = await http.get(link)
    assert (answer.status_code, answer.content) == (200, CONTENT)
    headers = {
        "content-type": "application/x-test",
        "content-length": str(len(CONTENT)),
        "content-disposition": "attachment; filename*=utf-8''Zeugnis%20f%C3%BCr%20Ada.bin",
    }
    assert headers.items() <= answer.headers.items()
    looked = await http.head(link)
    assert (looked.status_code, looked.content) == (200, b"")
    assert headers.items() <= looked.headers.items()


async def test_wrong_links_give_nothing(http: httpx.AsyncClient, store: FileStore, database: Database) -> None:
    file = await kept(store, database)
    for link in (store.link(file, life=-5), store.link(file) + "0", f"/api/v1/files/{file.id}?until=9999999999"):
        assert (await http.get(link)).status_code == 403


async def test_file_that_is_gone(http: httpx.AsyncClient, settings: Settings, database: Database) -> None:
    elsewhere = Files.FOLDER if settings.files is Files.POSTGRES else Files.POSTGRES
    other = open_store(settings.model_copy(update={"files": elsewhere}), database)
    answer = await http.get(other.link(await kept(other, database)))
    assert answer.status_code == 410
    assert "Zeugnis" in answer.json()["detail"]
