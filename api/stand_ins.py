"""The requests that stand-ins of outside services got, in a file of JSON lines that several processes may append to."""

import json
from pathlib import Path
from typing import Any

from anyio import to_thread

from worker.system.private import make_private, private_opener


class MessageBox:
    """An append-only list of records; a record whose key is there already is not added again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: set[str] = set()
        self._read_to = 0

    def add(self, record: dict[str, Any]) -> bool:
        """Append a record; False when its `key` was there already. One short write with O_APPEND, atomic on a local
        disk."""
        make_private(self._path.parent)
        self._learn_keys()
        key = record.get("key")
        if key is not None and key in self._keys:
            return False
        with open(self._path, "a", encoding="utf-8", opener=private_opener) as file:
            file.write(json.dumps(record) + "\n")
        return True

    async def newest(self, limit: int) -> tuple[int, list[dict[str, Any]]]:
        """How many records there are, and the newest `limit`, newest first."""
        lines = await to_thread.run_sync(self._lines)
        return len(lines), [json.loads(line) for line in lines[: -limit - 1 : -1]]

    def _lines(self) -> list[str]:
        if not self._path.exists():
            return []
        return self._path.read_text(encoding="utf-8").splitlines()

    def _learn_keys(self) -> None:
        """Read what was appended since the last time, also by other processes."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read_to)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read_to += len(line)
                key = json.loads(line).get("key")
                if key is not None:
                    self._keys.add(key)
