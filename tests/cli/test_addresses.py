"""Redis over TLS and over a socket of this machine, Postgres likewise: for clients, workers, the API and commands."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.cli.conftest import Embarq
from tests.serving import without_a_socket
from tests.support import Kit, eventually, free_port
from tests.tls import Authority, Streams, needs_openssl, tls_before
from worker import Client, Context, Registry, State, SyncClient
from worker.broker.address import redis_url_problem
from worker.core.errors import BrokerUnavailable, EmbarqError
from worker.database import make_engine, ping
from worker.dev import private_redis
from worker.http import create_app
from worker.settings import Settings

Write = Callable[[str, str], None]
JOBS = "from worker import job\n@job(name='work-{queue}', queue='{queue}')\nasync def work(number: int) -> int: ...\n"
BY_ITS_NAMES = ("DNS:localhost", "IP:127.0.0.1")


@pytest.fixture
async def authority(tmp_path: Path) -> Authority:
    return await asyncio.to_thread(Authority.make, tmp_path / "authority")


@pytest.fixture
def tcp_url(tmp_path: Path) -> Iterator[str]:
    with private_redis(tmp_path / "redis", port=free_port()) as url:
        yield url


@pytest.fixture
async def tls_url(tcp_url: str, authority: Authority) -> AsyncIterator[str]:
    """Redis over TLS, by a certificate of the test's own authority."""

    def connect() -> Any:
        return asyncio.open_connection("127.0.0.1", urlsplit(tcp_url).port)

    context = await asyncio.to_thread(authority.context, *BY_ITS_NAMES)
    async with tls_before(connect, context) as port:
        yield f"rediss://localhost:{port}/0?ssl_ca_certs={authority.certificate}"


@pytest.fixture
def socket_url(tmp_path: Path) -> Iterator[str]:
    """Redis on a socket alone."""
    with private_redis(tmp_path / "redis") as url:
        assert url.startswith("unix://")
        yield url


@pytest.fixture(params=[pytest.param("tls", marks=needs_openssl), "socket"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture
async def kit(url: str, queue: str) -> AsyncIterator[Kit]:
    """A job that runs longer than its lease, so that a thread renews it over a connection of its own."""
    async with Client.open(url) as client:
        kit = Kit(client, Registry(), queue)

        @kit.registry.job(name=f"work-{queue}", queue=queue)
        async def work(ctx: Context, number: int) -> int:
            ctx.progress(1, 2)
            await asyncio.sleep(1.5)
            return 2 * number

        kit.registry.bind(client)
        yield kit


async def test_clients_and_workers(kit: Kit, url: str) -> None:
    job = kit.registry.get(f"work-{kit.queue}")
    async with kit.worker(lease=1):
        handle = await kit.enqueue(job, {"number": 4})
        assert await handle.result(timeout=30) == 8  # told by a subscription
        kit.client.connections.epoch.end(kit.client.connections.epoch.number)
        assert (await (await kit.enqueue(job, {"number": 5})).result(timeout=30)) == 10  # over new connections

        def without_asyncio() -> object:
            with SyncClient(url) as client:
                return client.enqueue(job.call_with({"number": 6}, {"queue": kit.queue})).result(timeout=30)

        assert await asyncio.to_thread(without_asyncio) == 12
    assert (await handle.job()).tries == 1, "its lease was renewed"


async def test_api(kit: Kit, url: str, tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path / "data", REDIS_URL=url, jobs=("tests.worker.process_jobs",), open_queues=True
    )
    async with kit.worker(), without_a_socket(create_app(settings)) as http:

        async def ready() -> bool:  # a first handshake may take longer than a probe waits, on a loaded machine
            return (await http.get("/health/ready")).status_code == 200

        await eventually(ready, 30)
        assert (await http.get("/health/workers")).status_code == 200
        waiting = await kit.enqueue(kit.registry.get(f"work-{kit.queue}"), {"number": 1})
        told = (await http.get(f"/api/v1/jobs/{waiting.id}?wait=20")).json()
        assert (told["state"], told["result"]) == ("succeeded", 2)


async def test_commands(kit: Kit, url: str, embarq: Embarq, write: Write) -> None:
    write("jobs.py", JOBS.format(queue=kit.queue))

    async def run(*arguments: str) -> Any:
        ran = await asyncio.to_thread(embarq, *arguments, "--json", REDIS_URL=url)
        assert ran.code in (0, 1), ran.err
        return json.loads(ran.out)

    async with kit.worker():
        assert (await run("enqueue", f"work-{kit.queue}", "number=3", "--wait", "30"))["result"] == 6
        assert (await run("worker", "--check", "-Q", kit.queue))["unserved"] == []
        (redis,) = [check for check in await run("doctor") if check["finding"].startswith("version ")]
        assert (redis["what"], redis["ok"]) == ("redis", True)


async def test_worker_of_a_terminal(kit: Kit, url: str, embarq: Embarq, write: Write) -> None:
    write("jobs.py", JOBS.format(queue=kit.queue).replace("...", "return number"))
    handle = await kit.enqueue(kit.registry.get(f"work-{kit.queue}"), {"number": 3})
    ran = await asyncio.to_thread(embarq, "worker", "--burst", "-Q", kit.queue, REDIS_URL=url)
    assert ran.code == 0, ran.err
    assert (await handle.job()).state is State.SUCCEEDED


@needs_openssl
@pytest.mark.parametrize(
    ("names", "trusted", "said"),
    [
        (("DNS:elsewhere.test",), True, "certificate is not valid for 'localhost'"),
        (BY_ITS_NAMES, False, "unable to get local issuer certificate"),
    ],
)
async def test_certificate_that_is_not_right_is_refused_in_one_line(
    tcp_url: str, authority: Authority, embarq: Embarq, names: tuple[str, ...], trusted: bool, said: str
) -> None:
    def connect() -> Any:
        return asyncio.open_connection("127.0.0.1", urlsplit(tcp_url).port)

    context = await asyncio.to_thread(authority.context, *names)
    async with tls_before(connect, context) as port:
        bare = f"rediss://localhost:{port}/0"
        url = f"{bare}?ssl_ca_certs={authority.certificate}" if trusted else bare
        async with Client.open(url) as client:
            with pytest.raises(BrokerUnavailable, match=said):
                await client.find("x")
            with pytest.raises(Exception, match=said):
                await asyncio.to_thread(client.for_thread(timeout=5.0).ping)
        ran = await asyncio.to_thread(embarq, "job", "x", REDIS_URL=url)
        assert ran.code == 1
        assert ran.line.startswith("embarq: Redis is not available: ")
        assert said in ran.line
        ran = await asyncio.to_thread(embarq, "job", "x", REDIS_URL=bare, EMBARQ_REDIS_TLS_VERIFY="false")
        assert ran.line == "embarq: no job has the id 'x'"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("unix://", "must name a socket by its path"),
        ("redis://host/0?foo=1", "must have no options but db, client_name"),
        ("redis://host/0?decode_responses=true", "must have no options but db, client_name"),
        ("redis://host/0?ssl_ca_certs=/etc/hosts", "must have no options but db, client_name"),
        ("unix:///run/redis.sock?db=one", "must have a valid value for db"),
        ("redis://host?db=1&db=2", "must set db once"),
        ("rediss://host?ssl_cert_reqs=whatever", "must have a valid value for ssl_cert_reqs"),
        ("rediss://host?ssl_ca_certs=/nowhere.pem", "must set ssl_ca_certs to a file that this process can read"),
    ],
)
def test_url_that_leads_nowhere_is_refused_before_it_is_used(embarq: Embarq, url: str, said: str) -> None:
    assert (redis_url_problem(url) or "").startswith(said)
    with pytest.raises(EmbarqError, match="the URL of Redis"):
        Client(url)


def test_refused_url_is_one_line(embarq: Embarq) -> None:
    ran = embarq("job", "x", REDIS_URL="redis://:hunter2@host/0?foo=1")
    assert ran.code == 2
    assert ran.line.startswith("embarq: REDIS_URL=redis://…: must have no options but ")
    assert "hunter2" not in ran.line


async def test_postgres_on_a_socket(migrated: AsyncEngine, embarq: Embarq, write: Write, socket_url: str) -> None:
    write("jobs.py", JOBS.format(queue="default"))
    url = migrated.url.render_as_string(hide_password=False)
    assert str(migrated.url.query["host"]).startswith("/")
    ran = await asyncio.to_thread(embarq, "doctor", "--json", "--release", REDIS_URL=socket_url, DATABASE_URL=url)
    (database,) = [check for check in json.loads(ran.out) if check["what"] == "database"]
    assert database["ok"], database


@needs_openssl
async def test_postgres_over_tls(migrated: AsyncEngine, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, number = str(migrated.url.query["host"]), migrated.url.port or 5432

    async def connect() -> Streams:
        return await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.{number}")

    context = await asyncio.to_thread(authority.context, *BY_ITS_NAMES)
    async with tls_before(connect, context, postgres=True) as port:

        async def reach(mode: str) -> None:
            url = make_url(str(migrated.url)).set(host="localhost", port=port, query={"ssl": mode})
            engine = make_engine(url.render_as_string(hide_password=False))
            try:
                await ping(engine)
            finally:
                await engine.dispose()

        await reach("require")
        with pytest.raises(EmbarqError, match=r"DATABASE_URL cannot be used: .*root"):
            await reach("verify-full")  # nobody has said whom to trust
        monkeypatch.setenv("PGSSLROOTCERT", str(authority.certificate))
        await reach("verify-full")
