"""`python -m benchmarks.trace_job`: how much code one job passes in a worker, and how much there is to read.

A real worker, which is idle, runs a no-op job on a private Redis, and every call into a file of `worker/` is recorded
from the answer of the claim that brings the job to the answer of the command that stores its outcome. Both are seen
between the worker and Redis, by whose protocol they stay the same however the code between them is written. A second
figure is of all calls until the worker waits again, so that nothing is gained by doing it a moment later. Coroutines
that go on after an `await` are no call, and what is made by dataclasses is none of our files. Log lines are off, as
they have a way of their own that all lines go. `--path` lists the calls in their order.
"""

import argparse
import ast
import asyncio
import contextlib
import selectors
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType

import worker as engine
from worker import Client, Registry, Worker, WorkerConfig
from worker.dev import private_redis
from worker.observability.logs import configure_logs

ENGINE = Path(engine.__file__).parent
STORED = b"\r\nsucceeded\r\n"  # the state of the job, in the command that stores its outcome
WARM_UP = 3  # jobs before those that count
JOBS = 15
PATIENCE = 30.0
QUIET = 0.05  # seconds between two jobs, in which the worker comes to rest
COMPREHENSIONS = {"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"}
registry = Registry()
RESUMED = 0b11  # of the first instruction: where a coroutine that awaited goes on


@dataclass(frozen=True, slots=True)
class Call:
    """A function that began, at a time of `time.perf_counter`."""

    at: float
    code: CodeType

    @property
    def file(self) -> Path:
        return Path(self.code.co_filename)


@dataclass(slots=True)
class Marks:
    """When the job came, and when its outcome was stored; None until then."""

    job_id: str
    claimed_at: float | None = None
    stored_at: float | None = None


class Relay:
    """Stands between the worker and Redis, in a thread of its own, and sees when a job comes and is stored."""

    def __init__(self, server: Path, listener: socket.socket) -> None:
        self._server = server
        self._listener = listener
        self.marks = Marks("")

    async def run(self) -> None:
        async with await asyncio.start_unix_server(self._connected, sock=self._listener) as serving:
            await serving.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, to_redis = await asyncio.open_unix_connection(str(self._server))
        asked = False  # whether the last command was the one that stores the outcome

        def command(data: bytes) -> None:
            nonlocal asked
            asked = STORED in data and self.marks.job_id.encode() in data

        def answer(data: bytes) -> None:
            if asked:
                self.marks.stored_at = time.perf_counter()
            elif self.marks.job_id.encode() in data and self.marks.claimed_at is None:
                self.marks.claimed_at = time.perf_counter()

        await asyncio.gather(_pass_on(reader, to_redis, command), _pass_on(upstream, writer, answer))


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter, see: Callable[[bytes], None]) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(2**20):
            see(data)
            target.write(data)
    target.close()


@contextmanager
def relay_to(server: Path, path: Path) -> Iterator[Relay]:
    """A relay behind the socket at `path`."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        relay, loop = Relay(server, listener), asyncio.new_event_loop()
        running = loop.create_task(relay.run())
        thread = threading.Thread(target=_run, args=(loop, running), daemon=True)
        thread.start()
        try:
            yield relay
        finally:
            loop.call_soon_threadsafe(running.cancel)
            thread.join()


def _run(loop: asyncio.AbstractEventLoop, running: "asyncio.Task[None]") -> None:
    with contextlib.suppress(asyncio.CancelledError):
        loop.run_until_complete(running)
    for task in (left := asyncio.all_tasks(loop)):
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left))
    loop.close()


class Selector(selectors.DefaultSelector):
    """Notes when the worker's loop begins to wait, and when it is woken."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[tuple[float, float]] = []

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        began = time.perf_counter()
        found = super().select(timeout)
        if timeout is None or timeout > 0:
            self.waits.append((began, time.perf_counter()))
        return found

    def end_of(self, moment: float) -> float:
        """When the loop waited again, once it had been woken after this moment."""
        woken = next(ended for _, ended in self.waits if ended > moment)
        return next(began for began, _ in self.waits if began > woken)


class Tracer:
    """Records the calls of functions of ours in this thread."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._ours: dict[CodeType, bool] = {}

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        if event != "call":
            return
        code = frame.f_code
        ours = self._ours.get(code)
        if ours is None:
            ours = self._ours[code] = code.co_name not in COMPREHENSIONS and ENGINE in Path(code.co_filename).parents
        if ours and not code.co_code[frame.f_lasti + 1] & RESUMED:
            self.calls.append(Call(time.perf_counter(), code))


@dataclass(frozen=True, slots=True)
class Trace:
    """The calls of one job, in their order: until its outcome is stored, and those after it until the worker waits."""

    calls: tuple[Call, ...]
    after: tuple[Call, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """Those that it passed, the first ones first."""
        return tuple(dict.fromkeys(call.file for call in self.calls))

    @property
    def moves(self) -> int:
        """How often the next call is in another file."""
        return sum(before.file != after.file for before, after in pairwise(self.calls))


@registry.job
async def nothing() -> None:
    pass


async def enqueue(server: str, job_id: str) -> None:
    async with Client.open(server) as client:
        await client.enqueue(nothing.options(id=job_id).call())


@asynccontextmanager
async def working(url: str) -> AsyncIterator[None]:
    """A worker, as long as the block runs."""
    async with Client.open(url) as client:
        worker = Worker(client, registry, WorkerConfig(schedules=False))
        running = asyncio.create_task(worker.async_run())
        try:
            yield
        finally:
            worker.handle_sig(signal.SIGTERM)
            await running


async def traced(server: str, relayed: str, relay: Relay, selector: Selector) -> list[Trace]:
    """Traces of jobs that come one after the other to a worker that is idle."""
    traces: list[Trace] = []
    async with working(relayed):
        for number in range(WARM_UP + JOBS):
            await asyncio.sleep(QUIET)
            tracer = Tracer()
            marks = relay.marks = Marks(f"traced-{number}")
            sys.setprofile(tracer)
            try:
                await asyncio.to_thread(asyncio.run, enqueue(server, marks.job_id))  # none of this thread's calls
                async with asyncio.timeout(PATIENCE):
                    while marks.stored_at is None:
                        await asyncio.sleep(QUIET)
                await asyncio.sleep(QUIET)
            finally:
                sys.setprofile(None)
            assert marks.claimed_at is not None
            end = selector.end_of(marks.stored_at)
            calls = [each for each in tracer.calls if marks.claimed_at < each.at < end]
            stored = sum(each.at < marks.stored_at for each in calls)
            traces.append(Trace(tuple(calls[:stored]), tuple(calls[stored:])))
    return traces[WARM_UP:]


def trace() -> Trace:
    """Of several jobs the one with the fewest calls: what a worker does at intervals comes between those of others."""
    selector = Selector()
    with tempfile.TemporaryDirectory(prefix="embarq-") as folder, private_redis(Path(folder) / "redis") as server:
        path = Path(folder) / "relay"
        with (
            relay_to(Path(server.removeprefix("unix://")), path) as relay,
            asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner,
        ):
            traces = runner.run(traced(server, f"unix://{path}", relay, selector))
    return min(traces, key=lambda each: (len(each.calls), len(each.after)))


def longest_function(file: Path) -> tuple[int, str]:
    """Lines and name of the longest function in a file."""
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    found = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, kinds)]
    return max((((node.end_lineno or node.lineno) - node.lineno + 1, node.name) for node in found), default=(0, "none"))


def report(found: Trace) -> str:
    """The figures, and a table of the files."""
    rows, total, longest = [], 0, (0, "none")
    for file in found.files:
        lines, function = len(file.read_text().splitlines()), longest_function(file)
        total, longest = total + lines, max(longest, function)
        calls = sum(call.file == file for call in found.calls)
        rows.append(f"| {file.relative_to(ENGINE.parent)} | {lines} | {function[1]}, {function[0]} | {calls} |")
    return "\n".join(
        (
            f"{len(found.calls)} calls, {len(found.files)} files, {found.moves} moves between files",
            f"{len(found.calls) + len(found.after)} calls until the worker waits again",
            f"{total:,} lines in these files; the longest function: {longest[1]}, {longest[0]} lines",
            "",
            "| file | lines | longest function | calls |",
            "|---|---:|---|---:|",
            *rows,
        )
    )


def path_of(found: Trace) -> str:
    """The calls, a line each."""
    return "\n".join(
        f"{call.file.relative_to(ENGINE.parent)}:{call.code.co_firstlineno} {call.code.co_qualname}"
        for call in found.calls
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--path", action="store_true", help="also every call, in order")
    chosen = options.parse_args()
    configure_logs("WARNING", as_json=False)
    found = trace()
    sys.stdout.write(f"{report(found)}\n")
    if chosen.path:
        sys.stdout.write(f"\n{path_of(found)}\n")


if __name__ == "__main__":
    main()
