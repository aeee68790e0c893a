"""A primary is demoted without a connection being cut: everything moves to the new one by itself."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from tests.support import Kit, eventually, free_port
from worker import Client, Registry, State, chain
from worker.broker.opening import blocking_connection, thread_client
from worker.core import keys
from worker.core.errors import BrokerUnavailable
from worker.dev import private_redis


class Name:
    """Stands for a DNS name: new connections go to whatever `target` says, open ones stay where they are."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["Name"]:
        server = await asyncio.start_server(self._link, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in list(self._writers):
                writer.close()
            await eventually(self._closed)

    async def _closed(self) -> bool:
        return not self._writers

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target)
        pumps = [asyncio.create_task(_pump(reader, up_writer)), asyncio.create_task(_pump(up_reader, writer))]
        self._writers |= {writer, up_writer}
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for each in (writer, up_writer):
            each.close()
        await asyncio.gather(*pumps, return_exceptions=True)
        self._writers -= {writer, up_writer}


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)


@dataclass(frozen=True)
class Pair:
    """Two servers, the second a replica of the first, and a name that leads to the first."""

    first: Redis
    second: Redis
    ports: tuple[int, int]
    name: Name

    async def fail_over(self) -> None:
        """The second becomes the primary, the first its replica, and the name follows. Nothing is cut."""
        await self.second.execute_command("REPLICAOF", "NO", "ONE")
        await self.first.execute_command("REPLICAOF", "127.0.0.1", self.ports[1])
        self.name.target = self.ports[1]

    async def replicated(self) -> bool:
        """Whether the replica has this write, and so all before it."""
        await self.first.set("marker", 1)
        return bool(await self.first.execute_command("WAIT", 1, 100))


@contextmanager
def _servers(folder: Path) -> Iterator[tuple[str, str]]:
    with (
        private_redis(folder / "first", port=free_port()) as first,
        private_redis(folder / "second", port=free_port()) as second,
    ):
        yield first, second


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    with _servers(tmp_path) as (first_url, second_url):
        ports = (urlsplit(first_url).port or 0, urlsplit(second_url).port or 0)
        async with Redis.from_url(first_url) as first, Redis.from_url(second_url) as second:
            for server in (first, second):
                await server.config_set("repl-diskless-sync-delay", 0)
            await second.execute_command("REPLICAOF", "127.0.0.1", ports[0])
            async with Name(ports[0]).serve() as name:
                found = Pair(first, second, ports, name)
                await eventually(found.replicated, 30)
                yield found


@pytest.fixture
async def moving(pair: Pair) -> AsyncIterator[Kit]:
    async with Client.open(pair.name.url) as client:
        registry = Registry()
        registry.bind(client)
        yield Kit(client, registry, "default")
        registry.bind(None)


async def test_clients_and_workers_leave_a_demoted_primary(pair: Pair, moving: Kit) -> None:
    @moving.registry.job()
    async def work(seconds: float) -> int:
        await asyncio.sleep(seconds)
        return 1

    async with Client.open(pair.name.url) as waiter, moving.worker(lease=1.5):
        for _ in range(5):
            await moving.ended((await moving.enqueue(work, {"seconds": 0})).id)
        long = await moving.enqueue(work, {"seconds": 4})
        await moving.reaches(long.id, State.RUNNING)
        waiting = asyncio.create_task(waiter.wait_for(long.id, 15))
        await eventually(pair.replicated)
        await pair.fail_over()
        moved_at = time.monotonic()
        handles = [await moving.enqueue(work, {"seconds": 0}) for _ in range(20)]
        for handle in handles:
            assert (await moving.ended(handle.id)).state is State.SUCCEEDED
        assert time.monotonic() < moved_at + 3
        flow = await chain(work.s(0), work.si(0)).enqueue()
        assert await flow.result(timeout=5) == 1
        ended = await waiting
        assert (ended.state, ended.tries) == (State.SUCCEEDED, 1)  # its lease was kept on the new primary
    assert await pair.second.exists(keys.RESULT + long.id)


async def test_enqueue_while_the_name_still_leads_to_the_old_primary(pair: Pair, moving: Kit) -> None:
    @moving.registry.job()
    async def work() -> None: ...

    await moving.enqueue(work)
    await pair.fail_over()
    pair.name.target = pair.ports[0]
    before = int((await pair.first.info("stats"))["total_connections_received"])
    for _ in range(3):
        with pytest.raises(BrokerUnavailable, match=r"(?i)read.?only"):
            await moving.enqueue(work)
    made = int((await pair.first.info("stats"))["total_connections_received"]) - before
    assert made < 20  # no storm of connections
    pair.name.target = pair.ports[1]
    assert (await moving.enqueue(work)).created


async def test_subscription_leaves_with_its_pool(pair: Pair, moving: Kit) -> None:
    """A connection that only listens hears of it from the others."""

    @moving.registry.job()
    async def work() -> int:
        return 1

    handle = await moving.enqueue(work, delay=60)
    waiting = asyncio.create_task(moving.client.wait_for(handle.id, 30))
    channel = keys.DONE + handle.id

    async def listens(server: Redis) -> bool:
        return bool(dict(await server.pubsub_numsub(channel))[channel.encode()])

    await eventually(lambda: listens(pair.first))
    await eventually(pair.replicated)
    await pair.fail_over()
    await eventually(lambda: listens(pair.second), 6)
    await moving.client.cancel(handle.id)
    assert (await waiting).state is State.CANCELLED


async def test_blocking_connection_and_the_thread_leave_too(pair: Pair, moving: Kit) -> None:
    async with blocking_connection(moving.client.connections) as blocking:
        thread = thread_client(pair.name.url, timeout=2)
        await blocking.set("a", 1)
        await asyncio.to_thread(thread.set, "b", 1)
        await pair.fail_over()
        with pytest.raises(Exception, match=r"(?i)read.?only"):
            await blocking.set("a", 2)
        with pytest.raises(Exception, match=r"(?i)read.?only"):
            await asyncio.to_thread(thread.set, "b", 2)
        await blocking.set("a", 2)
        await asyncio.to_thread(thread.set, "b", 2)
        thread.close()
    assert await pair.second.mget("a", "b") == [b"2", b"2"]
