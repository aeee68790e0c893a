"""One environment with the wheel in it, made in the order in which somebody would make it."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.install.fresh import Fresh, clean_environment, copy_of_the_repository


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel, its extra `dev` and pytest. `bare`: what `embarq dev` said before the extra was
    there."""

    bin: Path
    wheel: Path
    bare: "subprocess.CompletedProcess[str]"

    def at(self, folder: Path) -> Fresh:
        """Its commands, in a folder."""
        return Fresh(folder, self.bin)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that nobody else touches: pytest closes its own to all others whenever it starts, also to the user as
    whom root's Postgres runs."""
    with TemporaryDirectory(prefix="embarq-") as path:
        yield Path(path)


@pytest.fixture(scope="session")
def installed() -> Iterator[Installed]:
    with TemporaryDirectory(prefix="embarq-") as path:
        yield install(Path(path))


def install(folder: Path) -> Installed:
    """Build the wheel, and install it in an environment of its own."""
    source = copy_of_the_repository(folder / "source")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", "dist", "."]
    subprocess.run(build, cwd=source, env=clean_environment(), check=True, timeout=120)
    (wheel,) = (source / "dist").glob("embarq-*.whl")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True, timeout=120)
    (folder / "empty").mkdir()
    environment = Fresh(folder / "empty", folder / "venv" / "bin")
    pip = ("python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    environment.must(*pip, str(wheel))
    path = f"{environment.bin}:/usr/bin:/bin"  # where no Redis of the machine is
    bare = environment.run("env", f"PATH={path}", "embarq", "dev")
    environment.must(*pip, f"{wheel}[dev]", "pytest", "pytest-asyncio")
    return Installed(environment.bin, wheel, bare)
