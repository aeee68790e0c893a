"""The user that runs a private Postgres where we are root, as whom Postgres refuses to run."""

import os
import pwd
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import structlog

from worker.dev.servers import EmbeddedError, User

logger = structlog.stdlib.get_logger("embarq.servers")

NAME = "pgserver"
MAKE_LIMIT = 30.0
ENTER, READ = 0o001, 0o004


def user_for(folder: Path) -> User | None:
    """The owner of the data in `folder`, or a system user, which is created where it is missing. None if this process
    is not root's, and Postgres can run as its own user.

    Raises:
        EmbeddedError: no user can be created.
    """
    if os.geteuid() != 0:
        return None
    owner = folder.stat() if folder.exists() else None
    if owner is not None and owner.st_uid != 0:
        found = User(owner.st_uid, owner.st_gid)
    else:
        entry = _system_user()
        found = User(entry.pw_uid, entry.pw_gid)
    logger.info("postgres runs as a system user, as it refuses root", user=_name_of(found))
    return found


def _system_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(NAME)
    except KeyError:
        pass
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", NAME]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=MAKE_LIMIT, start_new_session=True)
        return pwd.getpwnam(NAME)
    except (OSError, subprocess.SubprocessError, KeyError) as error:
        raise EmbeddedError(
            f"Postgres must not run as root, and the system user {NAME!r} cannot be created ({error}): "
            "run as another user, or set DATABASE_URL"
        ) from error


def _name_of(user: User) -> str:
    try:
        return pwd.getpwuid(user.uid).pw_name
    except KeyError:
        return str(user.uid)


def as_user(user: User | None) -> dict[str, Any]:
    """Options of `subprocess` for a program that a user runs; None is this process's own."""
    if user is None:
        return {"umask": 0o077}
    return {"umask": 0o077, "user": user.uid, "group": user.gid, "extra_groups": []}


def let_in(programs: Path, data: Path) -> None:
    """As root: let the system user reach the programs and the data. It may traverse the folders above them (their x
    bit), but not list them."""
    above = [each for path in (programs, data) for each in path.parents]
    opened = [folder for folder in dict.fromkeys(above) if _add(folder, ENTER)]
    if _add(programs, ENTER | READ):
        _open_all(programs.rglob("*"))
        opened.append(programs)
    if opened:
        logger.warning("folders were made passable, for postgres and all users", folders=", ".join(map(str, opened)))


def _open_all(paths: Iterable[Path]) -> None:
    for path in paths:
        if not path.is_symlink():
            may_run = path.is_dir() or bool(path.stat().st_mode & 0o100)
            _add(path, READ | (ENTER if may_run else 0))


def _add(path: Path, bits: int) -> bool:
    """Whether the permissions of a path had to be widened."""
    mode = path.stat().st_mode & 0o7777
    if mode & bits == bits:
        return False
    path.chmod(mode | bits)
    return True
