"""Connections to Redis for an event loop: when one is replaced, and how many there are. A test guards what is used of
redis-py's internals."""

import asyncio
import contextlib
import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

import hiredis
import redis.exceptions as errors
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.typing import EncodableT

from worker.broker.availability import says_demoted

Command = tuple[str | bytes | int | float, ...]

SILENCE = 1.0  # seconds without an answer that make all connections suspect
EPOCH_AT_LEAST = 0.1  # seconds: no storm of connections while a name still resolves to a demoted server


class Epoch:
    """Counts how often the server behind a URL turned out not to be the right one: it was demoted, or it fell silent. A
    connection that was made before is not used again: the next one goes to whatever the name resolves to then.
    """

    def __init__(self) -> None:
        self.number = 0
        self._ended_at = -math.inf

    def end(self, number: int) -> None:
        """A connection that was made in the epoch of this number must not be used any more, nor any other of it."""
        now = time.monotonic()
        if number == self.number and now >= self._ended_at + EPOCH_AT_LEAST:
            self.number += 1
            self._ended_at = now


class QuickConnection(AbstractConnection):
    """Does what redis-py 5 does for every command, in less time, and without `asyncio.wait_for`, which before Python
    3.12 swallows a cancellation that comes as it ends."""

    epoch = Epoch()  # of a connection that no pool of ours made
    made_in = 0
    silence = math.inf

    @property
    def is_ready(self) -> bool:
        """Whether a command may be sent: connected, in this epoch, and not closed by the other side."""
        return self._reader is not None and self.made_in == self.epoch.number and not self._reader.at_eof()

    @property
    def is_stale(self) -> bool:
        """Whether it may lead to another server than a new connection would."""
        return self.made_in != self.epoch.number

    async def connect(self) -> None:
        """Connect, if it is not."""
        if not self.is_connected:
            self.made_in = self.epoch.number
            await super().connect()  # type: ignore[no-untyped-call]  # redis-py's

    async def disconnect(self, nowait: bool = False) -> None:
        """Close at once: nobody needs what is still buffered, and a peer that hangs is not waited for."""
        self._parser.on_disconnect()
        writer, self._writer, self._reader = self._writer, None, None
        if writer is not None:
            writer.transport.abort()

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Write commands together and read their answers; errors that Redis answers stand among them. A connection that
        is lost says so when it is read from."""
        writer, answers = self._writer, []
        if writer is not None and not writer.transport.is_closing():
            writer.writelines([hiredis.pack_command(command) for command in commands])  # type: ignore[arg-type]  # its stub
        for _ in commands:
            asked_at = time.monotonic()
            try:
                answers.append(await super().read_response())
            except errors.ResponseError as error:
                self._learn_from(error, asked_at)
                answers.append(error)
            except BaseException as error:
                self._learn_from(error, asked_at)
                raise
        return answers

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """The answer to a command. An error that says that the server was demoted, or a long silence, ends the
        epoch."""
        asked_at = time.monotonic()
        try:
            return await super().read_response(*args, **kwargs)
        except BaseException as error:
            self._learn_from(error, asked_at)
            raise

    def _learn_from(self, error: BaseException, asked_at: float) -> None:
        gave_up = isinstance(error, errors.TimeoutError | asyncio.CancelledError)
        if says_demoted(error) or (gave_up and time.monotonic() > asked_at + self.silence):
            self.epoch.end(self.made_in)

    def post(self, *args: EncodableT) -> None:
        """Write a command without waiting. Nothing happens on a lost connection: whoever reads from it finds out."""
        if self._writer is not None and not self._writer.transport.is_closing():
            self._writer.writelines(self.pack_command(*args))

    def pack_command(self, *args: EncodableT) -> list[bytes]:
        """A command as bytes; names of two words and values of other types go redis-py's way."""
        if " " not in str(args[0]):
            with contextlib.suppress(TypeError):
                return [hiredis.pack_command(args)]  # type: ignore[arg-type]  # its stub knows one argument only
        return list(super().pack_command(*args))

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        """Write a command without `drain`. What the socket does not take stays in the transport's buffer: the wait for
        the answer, which has a time limit, covers it."""
        if not self.is_connected:
            await self.connect()
        writer = self._writer
        if writer is None or writer.transport.is_closing():
            await self.disconnect(nowait=True)
            raise errors.ConnectionError("the connection was closed")
        if isinstance(command, str):
            command = command.encode()
        writer.writelines([command] if isinstance(command, bytes) else command)


class Pool(ConnectionPool):
    """At most `max_connections` at once; further callers wait. redis-py's blocking pool takes a lock, a timer and an
    event for every command; this one does so only where a caller has to wait. `timeout`, in seconds, bounds the wait
    for a free connection and for its connecting."""

    def __init__(
        self,
        *,
        max_connections: int,
        timeout: float,
        epoch: Epoch | None = None,
        silence: float = SILENCE,
        **options: Any,
    ) -> None:
        """Pools that share an `epoch` leave a server together; `silence`, in seconds, of one connection ends it."""
        super().__init__(max_connections=max_connections, **options)
        self._free = asyncio.Semaphore(max_connections)
        self._timeout = timeout
        self._silence = silence
        self.epoch = epoch or Epoch()

    def make_connection(self) -> QuickConnection:
        """A new connection, not connected yet."""
        connection: QuickConnection = super().make_connection()  # type: ignore[no-untyped-call]  # redis-py's
        connection.epoch, connection.silence = self.epoch, self._silence
        return connection

    async def ask(self, *commands: Command) -> list[Any]:
        """Send commands in one round trip; per command its answer, or the error that Redis answered.

        Raises:
            redis.exceptions.ConnectionError, TimeoutError: the server is unavailable; it may have acted on them.
        """
        connection = await self.get_connection()
        try:
            return await connection.ask(commands)
        finally:
            await self.release(connection)

    async def get_connection(self, *_: object, **__: object) -> QuickConnection:
        """A connection that is ready for a command.

        Raises:
            redis.exceptions.ConnectionError: the server is unavailable, or no connection became free in time.
        """
        if not self._free.locked():
            await self._free.acquire()
            connection: QuickConnection = self.get_available_connection()  # type: ignore[no-untyped-call]  # redis-py's
            reader = connection._reader
            if reader is not None and connection.made_in == self.epoch.number and not reader.at_eof():
                return connection
            await self.release(connection)
        try:
            async with asyncio.timeout(self._timeout):
                return await self._connected()
        except TimeoutError as error:
            raise errors.ConnectionError(f"no connection became free within {self._timeout} s") from error

    async def _connected(self) -> QuickConnection:
        """Wait for a connection, and reconnect it where it is not ready."""
        await self._free.acquire()
        connection: QuickConnection = self.get_available_connection()  # type: ignore[no-untyped-call]  # redis-py's
        try:
            if not connection.is_ready:
                await connection.disconnect()
                await connection.connect()
        except BaseException:
            await connection.disconnect()
            await self.release(connection)
            raise
        return connection

    async def release(self, connection: AbstractConnection) -> None:
        """Give a connection back. If it is of an earlier epoch, all idle ones of such are closed."""
        self._in_use_connections.remove(connection)
        self._available_connections.append(connection)
        self._free.release()
        if isinstance(connection, QuickConnection) and connection.made_in != self.epoch.number:
            for idle in self._available_connections:
                if isinstance(idle, QuickConnection) and idle.is_stale:
                    await idle.disconnect()
