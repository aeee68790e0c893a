"""Where private servers have their sockets: beside their data, or in a folder with a short name."""

import os
import re
import socket
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from worker.system.private import OTHERS

ANSWER_LIMIT = 1.0  # seconds
LONGEST = 100  # bytes of a socket's path; `sun_path` holds 107 on Linux and 103 on macOS
PLAIN = re.compile(r"[\w./+~-]+", re.ASCII)  # needs no quotes in URLs, in comma-separated lists, on command lines


def socket_folder(folder: Path, state: Path) -> Path:
    """The folder of a server's socket, as `choose_socket_folder` has left it."""
    with suppress(OSError, ValueError):
        return Path(_record(state).read_text().strip())
    return folder


def choose_socket_folder(folder: Path, state: Path, name: str, owner: int) -> Path:
    """`folder`, if a socket of this name can be there; else one for the user `owner` alone, the same as last time.

    Its path is kept in `state`, for those who look for the socket.

    Raises:
        OSError: there is no place for it.
    """
    if _takes_sockets(folder, name):
        _record(state).unlink(missing_ok=True)
        return folder
    chosen = _kept(state, name, owner) or Path(tempfile.mkdtemp(prefix="embarq-", dir=_short_folder()))
    if chosen.stat().st_uid != owner:
        os.chown(chosen, owner, -1)
    _record(state).write_text(str(chosen))
    return chosen


def is_served(path: Path) -> bool:
    """Whether a process listens on a socket."""
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(ANSWER_LIMIT)
            probe.connect(str(path))
    except OSError:
        return False
    return True


def _record(state: Path) -> Path:
    return state / "socket-folder"


def _short_folder() -> str:
    usual = tempfile.gettempdir()
    is_fit = PLAIN.fullmatch(usual) and len(usual) < LONGEST - 40
    return usual if is_fit else "/tmp"  # noqa: S108  # what is made there is for its owner alone


def _kept(state: Path, name: str, owner: int) -> Path | None:
    """The folder of the last time, created again if it is gone; None if it is not ours, or unsuitable."""
    try:
        folder = Path(_record(state).read_text().strip())
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        seen = folder.lstat()
    except (OSError, ValueError):
        return None
    ours = stat.S_ISDIR(seen.st_mode) and seen.st_uid in (os.geteuid(), owner) and not seen.st_mode & OTHERS
    return folder if ours and _takes_sockets(folder, name) else None


def _takes_sockets(folder: Path, name: str) -> bool:
    """Whether a socket of this name can be there: a path may be too long, need quotes, or be on a file system without
    sockets."""
    if not PLAIN.fullmatch(str(folder)) or len(os.fsencode(folder / name)) > LONGEST:
        return False
    place = folder / f"{name[:-1]}~"
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(str(place))
    except OSError:
        return False
    finally:
        place.unlink(missing_ok=True)
    return True
