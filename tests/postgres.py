"""A Postgres of a test's own, which may be frozen, and a proxy before it that falls silent without closing anything."""

import asyncio
import contextlib
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psutil
from sqlalchemy import URL, make_url

from worker.dev import private_postgres


class OwnPostgres:
    """A server in a folder of its own."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self._folder = folder

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop all its processes for as long as the block runs, or until `thaw`."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.thaw()

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        pid = int((self._folder / "postmaster.pid").read_text().split()[0])
        postmaster = psutil.Process(pid)
        postmaster.send_signal(number)  # first, so that it starts no others
        for child in postmaster.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(number)


@contextmanager
def own_postgres() -> Iterator[OwnPostgres]:
    with tempfile.TemporaryDirectory(prefix="embarq-") as short:  # the path of a socket must be short
        folder = Path(short).resolve() / "postgres"
        with private_postgres(folder) as url:
            yield OwnPostgres(url, folder)


class SilentProxy:
    """TCP in front of a server on a socket. Silent links swallow what comes, from either side, and close nothing."""

    def __init__(self, url: str) -> None:
        self._url: URL = make_url(url)
        self._links: set[asyncio.Task[None]] = set()
        self._flags: list[asyncio.Event] = []
        self.all_silent = False
        self.refuses = False
        self.port = 0

    @property
    def url(self) -> str:
        """The database's URL by way of the proxy."""
        return self._url.set(host="127.0.0.1", port=self.port, query={}).render_as_string(hide_password=False)

    def silence_open_links(self) -> None:
        for flag in self._flags:
            flag.set()

    def cut_open_links(self) -> None:
        for link in self._links:
            link.cancel()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["SilentProxy"]:
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut_open_links()
            await asyncio.gather(*self._links, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        if self.refuses:
            writer.close()
            return
        self._links.add(link)
        link.add_done_callback(self._links.discard)
        silent = asyncio.Event()
        self._flags.append(silent)
        host = str(self._url.query["host"])
        up_reader, up_writer = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{self._url.port or 5432}")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, up_writer, silent))
                group.create_task(self._pump(up_reader, writer, silent))
        except (OSError, ExceptionGroup, asyncio.CancelledError):  # the link is done with, whoever ended it
            pass
        finally:
            writer.close()
            up_writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, silent: asyncio.Event) -> None:
        while data := await reader.read(65536):
            if not (self.all_silent or silent.is_set()):
                writer.write(data)
                await writer.drain()
        writer.close()
