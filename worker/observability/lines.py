"""The lines that every job and every request writes, by a shorter way than the general one.

They are gathered for one turn of the event loop and then written together. Loggers, handlers and formatters are those
of all other lines; only lines of other loggers may overtake them, by that one turn.
"""

import asyncio
import logging
import time
from collections.abc import Iterator


class LineHandler(logging.StreamHandler):  # type: ignore[type-arg]  # generic in the type stubs only
    """Writes lines to a stream; many in one go where they come together."""

    def write_all(self, records: list[logging.LogRecord]) -> None:
        """Write the records that the handler's level lets through."""
        text = "".join([self.format(record) + self.terminator for record in records if record.levelno >= self.level])
        self.acquire()
        try:
            self.stream.write(text)
            self.stream.flush()
        finally:
            self.release()


class LineLogger:
    """Writes lines at INFO to one logger of `logging`. Used in the event loop only."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)
        self._blank = vars(logging.LogRecord(name, logging.INFO, "", 0, "", None, None))
        self._gathered: list[logging.LogRecord] = []

    def info(self, event: str, fields: dict[str, object]) -> None:
        """Write one line with these fields and no others."""
        if not self._logger.isEnabledFor(logging.INFO):
            return
        now = time.time()
        record = logging.LogRecord.__new__(logging.LogRecord)
        record.__dict__ = {**self._blank, "msg": event, "created": now, "msecs": now % 1 * 1000, "all_fields": fields}
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self._write)
        self._gathered.append(record)

    def _write(self) -> None:
        records, self._gathered = self._gathered, []
        for handler in self._handlers():
            if isinstance(handler, LineHandler):
                handler.write_all(records)
            else:
                for record in records:
                    if record.levelno >= handler.level:
                        handler.handle(record)

    def _handlers(self) -> Iterator[logging.Handler]:
        """Those of the logger and its parents, as `logging` finds them."""
        logger: logging.Logger | None = self._logger
        while logger is not None:
            yield from logger.handlers
            logger = logger.parent if logger.propagate else None
