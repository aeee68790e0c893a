"""A private Postgres: programs of the bundled wheel, its data in a folder, on a socket that only its owner may use."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import structlog

from worker.dev.servers import EmbeddedError, User, used
from worker.dev.sockets import choose_socket_folder, is_served, socket_folder
from worker.dev.system_user import as_user, let_in, user_for
from worker.system.parent import ends_with_us
from worker.system.private import private_folder
from worker.system.programs import bundled_program

logger = structlog.stdlib.get_logger("embarq.servers")

NAME = ".s.PGSQL.5432"
MAKE_LIMIT = 120.0
NOBODY = 2**31 - 1  # no process has this id: Linux gives at most 2**22

# Collation and case by Unicode, the same on every machine, whatever locales it has.
NEW_DATA = (
    *("--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-instructions"),
    *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
)


@contextmanager
def postgres_for(data: Path, url: str | None) -> Iterator[str]:
    """The Postgres of the given URL, or a private one below `data` for as long as the block runs; yields its URL.

    Raises:
        EmbeddedError: none is installed, or it does not start.
    """
    with nullcontext(url) if url else private_postgres(data / "postgres") as found:
        yield found


@contextmanager
def private_postgres(folder: Path) -> Iterator[str]:
    """A Postgres with its data in `folder`; yields a URL for asyncpg, which is the same each time.

    It is shared by all its users on this machine, and stops when the last of them leaves. Its locks and its log are in
    the folder beside it whose name ends in `.run`.

    Raises:
        EmbeddedError: none is installed, or it does not start.
    """
    server = _Postgres(folder.resolve())
    with used(server):
        yield f"postgresql+asyncpg://postgres:@/postgres?host={server.socket.parent}"


class _Postgres:
    """How a private Postgres is started, and found."""

    name = "Postgres"
    variable = "DATABASE_URL"
    stops_at = signal.SIGINT  # Postgres' fast shutdown, which does not wait for clients
    passing: str | None = "is still in use"  # the shared memory of a killed server, whose children still run

    def __init__(self, folder: Path) -> None:
        self.state = folder.with_name(f"{folder.name}.run")
        self._folder = folder

    @property
    def socket(self) -> Path:
        """What it listens on."""
        return socket_folder(self._folder, self.state) / NAME

    @property
    def _notes(self) -> Path:
        """Its lock file: the process id in the first line, the status in the eighth."""
        return self._folder / "postmaster.pid"

    @property
    def is_ready(self) -> bool:
        """Whether it takes connections."""
        with suppress(OSError, IndexError):
            says = self._notes.read_text().splitlines()[7].strip()
            return says == "ready" and is_served(self.socket)  # the file of a killed server says `ready`, too
        return False

    def pid(self) -> int | None:
        """The process that serves the socket."""
        with suppress(OSError, ValueError, IndexError):
            return int(self._notes.read_text().splitlines()[0])
        return None

    def prepare(self) -> tuple[list[str], User | None]:
        """Initialize the data if there are none; the command that starts it, and who runs it."""
        program = bundled_program("postgres")
        if program is None:
            raise EmbeddedError("Postgres must be installed: pip install 'embarq[dev]', or set DATABASE_URL")
        user = user_for(self._folder)
        if user is not None:
            let_in(program.parents[1], self._folder)
        if not (self._folder / "PG_VERSION").exists():
            self._make(program.with_name("initdb"), user)
        place = choose_socket_folder(self._folder, self.state, NAME, user.uid if user else os.geteuid())
        self._forget_crash(place)
        options = ("listen_addresses=", f"unix_socket_directories={place}", "unix_socket_permissions=0600")
        return [str(program), "-D", str(self._folder), *(part for each in options for part in ("-c", each))], user

    def _make(self, initdb: Path, user: User | None) -> None:
        """Initialize the data elsewhere, and rename the folder: a half-finished one must not be taken for data."""
        if self._folder.exists() and any(self._folder.iterdir()):
            raise EmbeddedError(f"{self._folder} must be empty or hold data of Postgres: move its content away")
        logger.info("postgres makes its data", folder=str(self._folder))
        draft = self._folder.with_name(f"{self._folder.name}.new")
        shutil.rmtree(draft, ignore_errors=True)
        private_folder(draft)
        if user is not None:
            os.chown(draft, user.uid, user.gid)
        made = subprocess.run(
            [str(initdb), *NEW_DATA, "-D", str(draft)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=MAKE_LIMIT,
            cwd="/",
            check=False,
            start_new_session=True,  # Ctrl-C is for us, not for initdb
            preexec_fn=ends_with_us(),  # only two system calls, so it is safe although there are threads
            **as_user(user),
        )
        if made.returncode:
            reason = " ".join(made.stderr.decode(errors="replace").split())[:300]
            raise EmbeddedError(f"Postgres cannot initialize its data in {self._folder}: {reason}; set DATABASE_URL")
        draft.rename(self._folder)

    def _forget_crash(self, place: Path) -> None:
        """After a crash, the lock files name a process id that another program may have by now, because of which
        Postgres would refuse to start. Nothing listens on the socket, so that is not Postgres. The shared memory that
        the file names is kept there, for Postgres to check."""
        for stale in (place / NAME, place / f"{NAME}.lock"):
            stale.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            lines = self._notes.read_text(errors="replace").splitlines()
            if len(lines) < 7:  # a crash of the machine cut it short
                self._notes.unlink()
            else:
                self._notes.write_text("\n".join([str(NOBODY), *lines[1:7]]) + "\n")
