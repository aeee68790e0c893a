"""A faster path for the lines that every job and every request writes.

They are gathered for one iteration of the event loop and then written together, or before any other line, so that all
lines are in the order of their events. Loggers, handlers and formatters are those of all other lines.
"""

import asyncio
import contextlib
import errno
import logging
import os
import time
from collections import deque
from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter
from typing import IO

READER_GONE = frozenset({errno.EPIPE, errno.EIO})  # of a pipe; of a terminal


class BatchedHandler(logging.StreamHandler):  # type: ignore[type-arg]  # generic in the type stubs only
    """Writes lines to a stream; many at once where they come together.

    When the reader is gone, as of a pipe or a terminal that was closed, they are dropped.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, after those that were gathered before it."""
        write_gathered()
        try:
            text = self.format(record) + self.terminator
        except Exception:
            self.handleError(record)
        else:
            self._write(text)

    def write_all(self, records: list[logging.LogRecord]) -> None:
        """Write the records that pass the handler's level."""
        text = "".join([self.format(record) + self.terminator for record in records if record.levelno >= self.level])
        with self._alone():
            self._write(text)

    def flush(self) -> None:
        """Write what is gathered."""
        write_gathered()
        with self._alone(), contextlib.suppress(OSError, ValueError):
            self.stream.flush()

    def _write(self, text: str) -> None:
        try:
            self.stream.write(text)
            self.stream.flush()
        except OSError as error:  # which cannot be logged anywhere
            if error.errno in READER_GONE:
                discard(self.stream)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        self.acquire()
        try:
            yield
        finally:
            self.release()


class BatchedLogger:
    """Writes lines at INFO to one logger of `logging`. Used in the event loop only."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)
        self._blank = vars(logging.LogRecord(name, logging.INFO, "", 0, "", None, None))

    def info(self, event: str, fields: dict[str, object]) -> None:
        """Write one line with these fields and no others."""
        if not self._logger.isEnabledFor(logging.INFO):
            return
        now = time.time()
        record = logging.LogRecord.__new__(logging.LogRecord)  # its constructor looks up thread, process and caller
        record.__dict__ = {**self._blank, "msg": event, "created": now, "msecs": now % 1 * 1000, "all_fields": fields}
        _gathered.add(record)


class _Gathered:
    """Records that wait for the end of an iteration of the event loop. Any thread may take them."""

    def __init__(self) -> None:
        self._records: deque[logging.LogRecord] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, record: logging.LogRecord) -> None:
        loop = asyncio.get_running_loop()
        if not self._records or loop is not self._loop:  # an earlier loop may have left some
            self._loop = loop
            loop.call_soon(write_gathered)
        self._records.append(record)

    def take(self) -> list[logging.LogRecord]:
        taken = []
        with contextlib.suppress(IndexError):  # another thread may take some of them
            while self._records:
                taken.append(self._records.popleft())
        return taken


_gathered = _Gathered()


def write_gathered() -> None:
    """Write the lines that are gathered. May be called from any thread."""
    records = _gathered.take()
    for name, group in groupby(records, attrgetter("name")):
        together = list(group)
        for handler in _handlers(logging.getLogger(name)):
            if isinstance(handler, BatchedHandler):
                handler.write_all(together)
            else:
                for record in together:
                    if record.levelno >= handler.level:
                        handler.handle(record)


def discard(stream: IO[str]) -> None:
    """Redirect a stream to the null device, with what it has buffered: its reader is gone."""
    with contextlib.suppress(OSError, ValueError):  # it has no file descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _handlers(first: logging.Logger) -> Iterator[logging.Handler]:
    """Those of the logger and its parents, as `logging` finds them."""
    logger: logging.Logger | None = first
    while logger is not None:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None
