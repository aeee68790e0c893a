"""What many tests need: a worker of this process or another, a job by its state, a port, a proxy that cuts."""

import asyncio
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from worker import Client, Job, JobDefinition, JobHandle, Registry, State, Worker, WorkerConfig
from worker.core import keys
from worker.core.options import check_options
from worker.observability.logs import fields_of

T = TypeVar("T")
ROOT = Path(__file__).parent.parent
MIGRATIONS = (ROOT / "migrations",)
MARK = "EMBARQ_TEST_MARK"  # a variable by which processes are known, wherever they have gone


@dataclass(frozen=True)
class Kit:
    """A client, a registry and a queue of the test's own."""

    client: Client
    registry: Registry
    queue: str

    @property
    def queue_key(self) -> str:
        return keys.queue_key(self.queue)

    def config(self, **fields: Any) -> WorkerConfig:
        return WorkerConfig(**{"queues": (self.queue,), **fields})

    @asynccontextmanager
    async def worker(self, **config: Any) -> AsyncIterator[Worker]:
        """A worker of the queue, for as long as the block runs."""
        worker = Worker(self.client, self.registry, self.config(**config))
        running = asyncio.create_task(worker.async_run())
        try:
            yield worker
        finally:
            worker.handle_sig(signal.SIGTERM)
            async with asyncio.timeout(worker.config.grace + 10):
                await running

    async def drain(self, **config: Any) -> Worker:
        """Run what is queued, and end."""
        worker = Worker(self.client, self.registry, self.config(burst=True, **config))
        async with asyncio.timeout(30):
            await worker.async_run()
        return worker

    async def enqueue(
        self, job: JobDefinition[..., Any], arguments: dict[str, Any] | None = None, **options: Any
    ) -> JobHandle[Any]:
        checked = check_options(job.name, {"queue": self.queue} | options)
        return await self.client.enqueue(job.call_with(arguments or {}, checked))

    async def ended(self, job_id: str, timeout: float = 15) -> Job:
        job = await self.client.wait_for(job_id, timeout)
        assert job.state.ended, job
        return job

    async def reaches(self, job_id: str, state: State, timeout: float = 15) -> Job:
        async def found() -> Job | None:
            job = await self.client.find(job_id)
            return job if job.state is state else None

        return await eventually(found, timeout)


class Gauge:
    """How many are inside at once, and the most that ever were."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def __enter__(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        self.now -= 1


async def eventually(look: Callable[[], Awaitable[T | None]], timeout: float = 15) -> T:
    """What `look` finds, as soon as it finds something."""
    deadline = time.monotonic() + timeout
    while True:
        found = await look()
        if found:
            return found
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


@contextmanager
def logged(name: str) -> Iterator[list[dict[str, Any]]]:
    """The structured lines that a logger of ours writes in the block."""
    lines: list[dict[str, Any]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append({"event": record.getMessage(), **fields_of(record)})

    handler = Keep()
    logging.getLogger(name).addHandler(handler)
    try:
        yield lines
    finally:
        logging.getLogger(name).removeHandler(handler)


# Connections that go out have ports above these, so none of these is taken between our look and a server's start.
PORTS = range(10_000, 32_000)
_ours: list[socket.socket] = []


def free_port() -> int:
    """A port that is free, and that no other process of tests is told of: while we run, UDP of that number is ours,
    which stands for a lock."""
    while True:
        port = random.choice(PORTS)
        lock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            lock.bind(("127.0.0.1", port))
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            lock.close()
            continue
        _ours.append(lock)
        return port


def mode(path: Path) -> int:
    """Who may do what with a file, in the file system's nine bits."""
    return path.stat().st_mode & 0o777


def marked(mark: str) -> dict[int, str]:
    """Command lines of running processes with a mark in their environment, by number."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):  # it is another user's, or has just ended
                if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def start_embarq(*arguments: str, log: Path, **environment: str) -> "subprocess.Popen[bytes]":
    """A command of ours as a process; its output goes to `log`."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "worker.cli", *arguments],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


class CuttingProxy:
    """A TCP proxy to a port or socket that cuts the first connection after so many bytes, and lets later ones pass.

    `cut_sent` counts bytes towards the server, `cut_received` bytes back; None does not cut that way. While `passes` is
    not set, nothing goes either way and nothing is closed, as where a firewall drops what comes.
    """

    def __init__(self, target: int | str, *, cut_sent: int | None = None, cut_received: int | None = None) -> None:
        """`target`: a port of this machine, or the path of a socket."""
        self._target = target
        self._limits = (cut_sent, cut_received)
        self.seen = [0, 0]
        self.passes = asyncio.Event()
        self.passes.set()
        self.port = 0
        self._connections = 0
        self._pumps: set[asyncio.Task[None]] = set()
        self._links: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serve(self, *listening: socket.socket) -> AsyncIterator["CuttingProxy"]:
        """Take connections on these sockets, or on a free port of this machine."""
        sockets = listening or (socket.create_server(("127.0.0.1", 0)),)
        servers = [await asyncio.start_server(self._connect, sock=each) for each in sockets]
        self.port = sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            for server in servers:
                server.close()
            self.passes.set()
            quiet = 0
            while quiet < 5:  # some may just be connecting
                self.cut_all()
                await asyncio.sleep(0.01)
                quiet = 0 if self._links else quiet + 1

    def cut_all(self) -> None:
        """Cut every connection that is open now."""
        for pump in list(self._pumps):
            pump.cancel()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        if link is None:
            return
        self._links.add(link)
        link.add_done_callback(self._links.discard)
        self._connections += 1
        first = self._connections == 1
        limits = self._limits if first else (None, None)
        await self.passes.wait()
        try:
            up_reader, up_writer = await self._open()
        except OSError:
            writer.close()
            return
        pumps = [
            asyncio.create_task(self._pump(reader, up_writer, 0, limits[0], count=first)),
            asyncio.create_task(self._pump(up_reader, writer, 1, limits[1], count=first)),
        ]
        self._pumps.update(pumps)
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        self._pumps.difference_update(pumps)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for each in (writer, up_writer):
            each.close()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, str):
            return await asyncio.open_unix_connection(self._target)
        return await asyncio.open_connection("127.0.0.1", self._target)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        way: int,
        limit: int | None,
        *,
        count: bool,
    ) -> None:
        passed = 0
        while limit is None or passed < limit:
            data = await reader.read(65536 if limit is None else limit - passed)
            await self.passes.wait()
            if not data:
                return
            passed += len(data)
            if count:
                self.seen[way] += len(data)
            writer.write(data)
            await writer.drain()
