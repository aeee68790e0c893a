"""Every code block of README and docs runs as it is printed, page by page and in order."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.documentation.pages import Block, Page, read_page
from tests.install.fresh import Fresh, copy_of_the_repository
from tests.support import ROOT, free_port
from worker.dev import private_redis
from worker.settings.project import find_project

# One clone, beside one `embarq dev`, is enough for all pages that need one.
IN_A_CLONE = pytest.mark.xdist_group("clone")
PAGES = [page for page in map(read_page, sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])) if page.blocks]
OUTPUT = {"", "text", "console", "mermaid"}
CHECKED = {"json", "toml"}
RUN = {"sh", "python"}
NOT_RUN = 4  # blocks that say why they cannot run here
BLOCK_LIMIT = 60


@dataclass(frozen=True)
class Clone:
    """A copy of this repository with the files of its pages, in which everything runs."""

    folder: Path
    port: int

    @property
    def environment(self) -> dict[str, str]:
        """As a reader's who has activated the clone's environment."""
        return {"PYTHONPATH": str(self.folder)}


@dataclass(frozen=True)
class Reader:
    """Somebody who does what a page says in `folder`, with `environment`; the API is on `port`, not on 8000."""

    page: Page
    folder: Path
    notes: Path
    environment: dict[str, str]
    port: int

    def save(self, block: Block) -> Path:
        """Python, to be run with the rest of the page's."""
        path = self.notes / f"{self.page.path.stem}-{block.line}.py"
        path.write_text(f"{block.before}\n{block.text}")
        return path

    def run_shell(self, block: Block) -> None:
        text = block.text.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")
        self._run(["bash", "-eu", "-o", "pipefail", "-c", text], {}, self._place(block))

    def run_python(self, files: list[Path], **environment: str) -> None:
        command = [sys.executable, "-W", "error", "-m", "tests.documentation.run_python", *map(str, files)]
        self._run(command, {"PYTHONPATH": str(ROOT), **environment}, self.page.path.name)

    def check_data(self, block: Block) -> None:
        if block.language == "json":
            json.loads(block.text)
        elif "embarq" in tomllib.loads(block.text).get("tool", {}):
            (self.notes / "pyproject.toml").write_text(block.text)
            find_project(self.notes)

    def _place(self, block: Block) -> str:
        return f"{self.page.path.relative_to(ROOT)}:{block.line}"

    def _run(self, command: list[str], environment: dict[str, str], where: str) -> None:
        (self.notes / ".curlrc").write_text("fail-with-body\n")  # an answer of 400 and above fails the block
        own = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "CURL_HOME": str(self.notes)}
        ended = subprocess.run(
            command,
            cwd=self.folder,
            env=os.environ | own | self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=BLOCK_LIMIT,
            check=False,
        )
        assert ended.returncode == 0, f"{where} ended with {ended.returncode}:\n{ended.stdout.decode()}"


@pytest.fixture(scope="module")
def own_redis(servers: Path) -> Iterator[str]:
    """A server that nobody else uses: pages use the queue `default`."""
    with private_redis(servers / "documentation") as url:
        yield url


@pytest.fixture(scope="module")
def clone() -> Iterator[Clone]:
    """A clone in which `make run` runs, beside the files that its pages tell to write."""
    with TemporaryDirectory(prefix="embarq-") as path:
        clone = Clone(copy_of_the_repository(Path(path) / "embarq"), free_port())
        for page in PAGES:
            if page.in_a_clone:
                write_files(page, clone.folder)
        fresh = Fresh(clone.folder, Path(sys.executable).parent)
        with fresh.running("python", "-m", "worker.cli", "dev", port=clone.port, variables=clone.environment):
            yield clone


def write_files(page: Page, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in page.files.items():
        assert not (ROOT / name).exists() or not page.in_a_clone, f"{page.path.name} would overwrite {name}"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.fixture
def reader(page: Page, request: pytest.FixtureRequest, tmp_path: Path, own_redis: str) -> Reader:
    """Who does what a page says, in the folder that it is about."""
    if page.in_a_clone:
        clone: Clone = request.getfixturevalue("clone")
        return Reader(page, clone.folder, tmp_path, clone.environment, clone.port)
    write_files(page, tmp_path / "page")
    return Reader(page, tmp_path / "page", tmp_path, {"REDIS_URL": own_redis}, 8000)


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=IN_A_CLONE if page.in_a_clone else ()) for page in PAGES],
    ids=[str(page.path.relative_to(ROOT)) for page in PAGES],
)
def test_page(page: Page, reader: Reader, own_redis: str, migrated: AsyncEngine) -> None:
    python: list[Path] = []
    for block in page.blocks:
        if block.not_run is not None or block.file is not None:
            continue
        if block.language == "python":
            python.append(reader.save(block))
        elif block.language == "sh":
            reader.run_shell(block)
        elif block.language in CHECKED:
            reader.check_data(block)
    if python:
        url = migrated.url.render_as_string(hide_password=False)
        reader.run_python(python, REDIS_URL=own_redis, DATABASE_URL=url)


def test_what_is_not_run_says_why() -> None:
    reasons = [block.not_run for page in PAGES for block in page.blocks if block.not_run is not None]
    assert all(len(reason) > 10 for reason in reasons)
    assert len(reasons) == NOT_RUN, "change the number with the pages, knowingly"


def test_every_block_has_a_language() -> None:
    for page in PAGES:
        for block in page.blocks:
            assert block.language in OUTPUT | CHECKED | RUN, f"{page.path.name}:{block.line}: {block.language!r}"
