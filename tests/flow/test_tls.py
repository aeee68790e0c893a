"""Redis over TLS with a certificate that nobody signed, as Heroku has it."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support import Kit, eventually
from worker import Client, Registry, State
from worker.core.errors import BrokerUnavailable

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")


def self_signed(folder: Path) -> ssl.SSLContext:
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@asynccontextmanager
async def tls_before(redis_url: str, folder: Path) -> AsyncIterator[str]:
    """The server's URL, through something that ends TLS."""
    context = await asyncio.to_thread(self_signed, folder)
    writers: set[asyncio.StreamWriter] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except (OSError, ssl.SSLError):
            pass
        writer.close()
        writers.discard(writer)

    async def link(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", urlsplit(redis_url).port)
        writers.update((writer, up_writer))
        await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer))

    async def closed() -> bool:
        return not writers

    server = await asyncio.start_server(link, "127.0.0.1", 0, ssl=context)
    try:
        yield f"rediss://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        server.close()
        await eventually(closed)


async def test_jobs_over_tls(redis_url: str, queue: str, tmp_path: Path) -> None:
    async with tls_before(redis_url, tmp_path) as url:
        async with Client.open(url, verify_tls=False) as client:
            kit = Kit(client, Registry(), queue)

            @kit.registry.job()
            async def work() -> int:
                return 1

            async with kit.worker(lease=1):
                assert (await kit.ended((await kit.enqueue(work)).id)).state is State.SUCCEEDED
            client.connections.epoch.end(client.connections.epoch.number)
            assert await client.redis.ping()  # over a new connection
        async with Client.open(url) as strict:
            with pytest.raises(BrokerUnavailable, match="certificate"):
                await strict.find("a")
