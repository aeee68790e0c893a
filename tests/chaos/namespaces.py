"""A Redis and workers in network namespaces of their own, between which packets can be dropped without a word."""

import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from worker.dev import redis_program

NOBODY = "02:00:00:00:00:99"  # an address that no interface has: frames to it are thrown away
PORT = 6379
START_LIMIT = 20.0
CLONE_NEWNET = 0x40000000
T = TypeVar("T")


def why_not() -> str | None:
    """Why there are no namespaces here; None when there are."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        assert "CI" not in os.environ, ".ci/run installs the command `ip` for root"
        return "network namespaces need the command `ip` (iproute2)"
    name = f"embarq-{os.getpid()}-x"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"no network namespaces here: {tried.stderr.strip()}"
    _ip("netns", "del", name)
    return None


@dataclass(frozen=True)
class Wire:
    """A wire from Redis to one worker. The worker sees Redis as `address`, and is itself seen as `own_address`."""

    redis: str
    worker: str
    number: int

    @property
    def address(self) -> str:
        return f"10.231.{self.number}.1"

    @property
    def own_address(self) -> str:
        return f"10.231.{self.number}.2"

    @property
    def inside(self) -> Sequence[str]:
        """The command that runs another one in the worker's namespace."""
        return ("ip", "netns", "exec", self.worker)

    def drop(self) -> None:
        """From now on, packets vanish in both directions. Nobody is told: no reset, no error."""
        for namespace, other in ((self.redis, self.own_address), (self.worker, self.address)):
            _ip("-n", namespace, "neigh", "replace", other, "lladdr", NOBODY, "dev", self._device, "nud", "permanent")

    def restore(self) -> None:
        """Packets arrive again."""
        for namespace, other in ((self.redis, self.own_address), (self.worker, self.address)):
            _ip("-n", namespace, "neigh", "del", other, "dev", self._device)

    def lay(self) -> None:
        """Make the worker's namespace, and the wire."""
        _ip("netns", "add", self.worker)
        ends = ("netns", self.redis, "type", "veth", "peer", "name", self._device, "netns", self.worker)
        _ip("link", "add", self._device, *ends)
        for namespace, own in ((self.redis, self.address), (self.worker, self.own_address)):
            _ip("-n", namespace, "addr", "add", f"{own}/24", "dev", self._device)
            _ip("-n", namespace, "link", "set", self._device, "up")

    @property
    def _device(self) -> str:
        return f"wire{self.number}"


def within(namespace: str, function: Callable[[], T]) -> T:
    """What a function returns in a namespace. Sockets that it opens stay there."""

    def enter_and_call() -> T:
        with Path("/run/netns", namespace).open() as handle:
            if ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"cannot enter namespace {namespace}")
        return function()

    with ThreadPoolExecutor(1) as own_thread:  # a namespace is a thread's, and this one ends with it
        return own_thread.submit(enter_and_call).result()


@contextmanager
def wired_redis(folder: Path, count: int) -> Iterator[tuple[str, list[Wire]]]:
    """A Redis in a namespace, with wires to so many others; yields its URL on a socket that needs no network."""
    redis = f"embarq-{os.getpid()}-r"
    wires = [Wire(redis, f"embarq-{os.getpid()}-w{number}", number) for number in range(1, count + 1)]
    try:
        _ip("netns", "add", redis)
        for wire in wires:
            wire.lay()
        with _serving(folder, redis, [wire.address for wire in wires]) as socket:
            yield f"unix://{socket}", wires
    finally:
        for name in (redis, *(wire.worker for wire in wires)):
            with suppress(subprocess.CalledProcessError):
                _ip("netns", "del", name)


@contextmanager
def _serving(folder: Path, namespace: str, addresses: Sequence[str]) -> Iterator[Path]:
    socket = folder / "redis.sock"
    options = ("--port", str(PORT), "--protected-mode", "no", "--unixsocket", str(socket), "--dir", str(folder))
    kept = ("--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction", "--bind", *addresses)
    command = ["ip", "netns", "exec", namespace, str(redis_program()), *options, *kept]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + START_LIMIT
        while not socket.exists():
            assert process.poll() is None, "Redis does not start"
            assert time.monotonic() < deadline, "Redis does not start in time"
            time.sleep(0.02)
        yield socket
    finally:
        process.terminate()
        process.wait(15)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
