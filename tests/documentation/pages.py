"""Pages of Markdown and their code blocks, with what comments above a block say of it.

<!-- in a clone -->         once in a page: its blocks run in a clone of the repository beside `make run`; without it,
                            in an empty folder
<!-- file: jobs/a.py -->    the block is the content of this file
<!-- before ... -->         Python that a reader has already, and that runs before the block
<!-- not run: reason -->    nothing can run it here
"""

import re
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>[^\n]*)\n(?P<text>.*?)^ *```$", re.DOTALL | re.MULTILINE)
COMMENT = re.compile(r"<!-- *(?P<kind>file:|before\n|not run:)(?P<text>(?:(?!-->).)*)-->\s*\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A code block. `line`: where it begins in its page."""

    language: str
    text: str
    line: int
    file: str | None = None
    before: str = ""
    not_run: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A page with code blocks."""

    path: Path
    in_a_clone: bool
    blocks: tuple[Block, ...]

    @property
    def files(self) -> dict[str, str]:
        """What it says is in which file."""
        return {block.file: block.text for block in self.blocks if block.file is not None}


def read_page(path: Path) -> Page:
    """A page as it is in its file."""
    text = path.read_text()
    blocks = [_block(text, found) for found in BLOCK.finditer(text)]
    return Page(path, "<!-- in a clone -->" in text, tuple(blocks))


def _block(text: str, found: re.Match[str]) -> Block:
    line = text.count("\n", 0, found.start()) + 1
    indent = found["indent"]
    lines = "".join(each.removeprefix(indent) for each in found["text"].splitlines(keepends=True))
    said: dict[str, str] = {}
    above = text[: found.start()]
    while comment := COMMENT.search(above):
        said[comment["kind"].strip().rstrip(":")] = comment["text"]
        above = above[: comment.start()]
    file, reason = said.get("file"), said.get("not run")
    return Block(
        found["language"].strip(),
        lines,
        line,
        file=file and file.strip(),
        before=said.get("before", ""),
        not_run=reason and reason.strip(),
    )
