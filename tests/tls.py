"""Servers over TLS: an authority of the test's own, and something that ends TLS before a server that knows none."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import eventually

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="the command openssl makes certificates")

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
SSL_REQUEST = 8  # bytes with which a client of Postgres asks for TLS, and is answered with a letter


@dataclass(frozen=True)
class Authority:
    """Signs certificates. `certificate`: what who trusts it needs."""

    folder: Path

    @property
    def certificate(self) -> Path:
        return self.folder / "ca.pem"

    @classmethod
    def make(cls, folder: Path) -> "Authority":
        folder.mkdir()
        _openssl(folder, "req -x509 -nodes -subj /CN=authority -days 2 -keyout ca.key -out ca.pem", new_key=True)
        return cls(folder)

    def context(self, *names: str) -> ssl.SSLContext:
        """What a server needs that is reached by these names, such as `DNS:localhost` or `IP:127.0.0.1`."""
        (self.folder / "names").write_text(f"subjectAltName={','.join(names)}\n")
        _openssl(self.folder, "req -nodes -subj /CN=server -keyout server.key -out server.csr", new_key=True)
        signed = (
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem"
        )
        _openssl(self.folder, signed)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "server.pem", self.folder / "server.key")
        return context


def _openssl(folder: Path, arguments: str, *, new_key: bool = False) -> None:
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"] if new_key else []
    subprocess.run(["openssl", *arguments.split(), *key], cwd=folder, check=True, capture_output=True)


@asynccontextmanager
async def tls_before(
    connect: Callable[[], Awaitable[Streams]], context: ssl.SSLContext, *, postgres: bool = False
) -> AsyncIterator[int]:
    """The port of something that ends TLS before a server. `postgres`: clients ask for TLS first, as Postgres' do."""
    links: set[asyncio.Task[None]] = set()

    async def link(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        links.add(task)
        try:
            if postgres:
                await reader.readexactly(SSL_REQUEST)
                writer.write(b"S")
                await writer.start_tls(context)
            up_reader, up_writer = await connect()
            await asyncio.gather(_pump(reader, up_writer), _pump(up_reader, writer))
        except (OSError, asyncio.IncompleteReadError):  # with what TLS refuses
            writer.close()
        finally:
            links.discard(task)

    async def all_are_closed() -> bool:
        return not links

    server = await asyncio.start_server(link, "127.0.0.1", 0, ssl=None if postgres else context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await eventually(all_are_closed)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()
