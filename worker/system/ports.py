"""Ports: binding them, finding free ones, and naming the process that has a taken one."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from worker.core.errors import EmbarqError
from worker.core.texts import escaped

LISTENING = "0A"  # TCP_LISTEN, the state in /proc/net/tcp; see proc(5)
LONGEST_COMMAND = 80
NO_SUCH_FAMILY = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
LIKED = range(9000, 9100)
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # where to reach a server that listens there


class PortError(EmbarqError):
    """A port cannot be bound; the message says who has it, and what to do."""


def api_address(host: str, port: int) -> str:
    """The URL at which to reach an API that listens there."""
    named = EVERYWHERE.get(host, host)
    return f"http://[{named}]:{port}" if ":" in named else f"http://{named}:{port}"


def bind(host: str, port: int, command: str) -> list[socket.socket]:
    """Sockets bound to the API's port, one for each address of the host. They do not listen yet.

    `command`: what was called, such as `make run`, for the advice.

    Raises:
        PortError: another process has it, or we may not use it.
    """
    sockets: list[socket.socket] = []
    try:
        for family, address in _addresses(host, port):
            with _closed_on_error(socket.socket(family, socket.SOCK_STREAM)) as opened:
                _bind(opened, address)
                sockets.append(opened)
    except OSError as error:
        for each in sockets:
            each.close()
        raise PortError(reason(error, host, port, command)) from error
    return sockets


def is_free(port: int) -> bool:
    """Whether no process listens on this port of this machine."""
    with socket.socket() as probe:
        try:
            _bind(probe, ("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def holder(port: int) -> str:
    """Who listens on a port of this machine, as far as we may see it."""
    found = _listener(port)
    if found is None:
        return "another process"
    inode, user = found
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and _has(entry, f"socket:[{inode}]"):
            return f"process {entry.name} ({_command(entry)})"
    return "another process" if user == os.getuid() else f"a process of another user ({_user(user)})"


def _addresses(host: str, port: int) -> list[tuple[int, tuple[object, ...]]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    every = {address: int(family) for family, _, _, _, address in found}
    several = len(every) > 1  # a name may have addresses of a family that this machine lacks
    usable = {address: family for address, family in every.items() if not several or _is_usable(family, address)}
    return [(family, address) for address, family in (usable or every).items()]


def _is_usable(family: int, address: tuple[object, ...]) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address[0], 0, *address[2:]))
    except OSError as error:
        return error.errno not in NO_SUCH_FAMILY
    return True


def _bind(opened: socket.socket, address: tuple[object, ...]) -> None:
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # an earlier process' connections are in TIME_WAIT
    if opened.family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    opened.bind(address)


@contextlib.contextmanager
def _closed_on_error(opened: socket.socket) -> Iterator[socket.socket]:
    try:
        yield opened
    except BaseException:
        opened.close()
        raise


def reason(error: OSError, host: str, port: int, command: str) -> str:
    """Why a port cannot be bound, and what to do."""
    if error.errno == errno.EADDRINUSE:
        other = next(each for each in LIKED if each != port and is_free(each))
        return f"port {port} is taken by {holder(port)}: end that, or take another port: PORT={other} {command}"
    if error.errno == errno.EACCES:
        return f"port {port} must be above 1023 for this user: PORT=8000 {command}"
    return f"EMBARQ_HOST must be an address of this machine, not {host!r} ({error.strerror})"


def _listener(port: int) -> tuple[str, int] | None:
    """The inode and the user of a listening socket."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == LISTENING and int(columns[1].rpartition(":")[2], 16) == port:
                    return columns[9], int(columns[7])
    return None


def _has(process: Path, file: str) -> bool:
    """Whether a process has a file open."""
    with contextlib.suppress(OSError):  # it belongs to another user, or has just ended
        for each in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                if os.readlink(each) == file:
                    return True
    return False


def _command(process: Path) -> str:
    with contextlib.suppress(OSError):
        words = (process / "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
        return escaped(words[:LONGEST_COMMAND] + ("…" if len(words) > LONGEST_COMMAND else ""))
    return "it has just ended"


def _user(number: int) -> str:
    import pwd  # noqa: PLC0415  # there is none on Windows

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
