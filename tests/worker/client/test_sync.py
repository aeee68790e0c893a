"""The client for code without an event loop."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support import ROOT, Kit, free_port
from worker import (
    Client,
    EmbarqError,
    Registry,
    State,
    SyncClient,
    SyncJobHandle,
    WorkflowState,
    chain,
    group,
    inline,
)
from worker.client.sync import lent
from worker.core.errors import (
    BrokerUnavailable,
    ClientClosed,
    InvalidArguments,
    JobEnded,
    JobFailed,
    JobNotFound,
    WorkflowFailed,
)


@pytest.fixture
def sync(redis_url: str, kit: Kit) -> Iterator[SyncClient]:
    """Jobs of the test's registry go to its own queue."""
    kit.registry.route([("*", kit.queue)])
    with SyncClient(redis_url, registry=kit.registry) as client:
        yield client


def portals() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "embarq sync client"}


@pytest.mark.parametrize("url", ["", None, "http://example.test", "redis://example.test/staging", "redis://h:port"])
def test_url_that_leads_to_no_redis_is_told_without_it(registry: Registry, url: str) -> None:
    with SyncClient(url, registry=registry) as client, pytest.raises(EmbarqError, match=r"^the URL of Redis ") as told:
        client.workers()
    assert "example" not in str(told.value)


def test_database_that_the_server_does_not_have_is_told(registry: Registry, redis_url: str) -> None:
    @registry.job()
    async def nothing() -> None: ...

    url = urlsplit(redis_url)._replace(path="/9999").geturl()
    with (
        SyncClient(url, registry=registry),
        pytest.raises(EmbarqError, match="must end with the number of a database that it has"),
    ):
        nothing.enqueue_sync()


async def test_job_is_queued_and_its_result_awaited_without_await(kit: Kit, sync: SyncClient) -> None:
    @kit.registry.job()
    async def greet(name: str) -> str:
        return f"hello {name}"

    # As in a notebook, whose cells run beside a running loop.
    handle = greet.enqueue_sync("Ada")
    later = greet.options(id=f"{kit.queue}-later", delay=3600, tags=("x",)).enqueue_sync(name="Bob")
    assert (handle.created, handle.state(), later.state()) == (True, State.QUEUED, State.DEFERRED)
    assert greet.options(id=later.id).enqueue_sync("Eve").created is False
    with pytest.raises(TimeoutError):
        handle.result(timeout=0.1)
    async with kit.worker():
        assert await asyncio.to_thread(handle.result, 15) == "hello Ada"
        assert (await asyncio.to_thread(handle.wait, 15)).state is State.SUCCEEDED
    assert handle.job().result == "hello Ada"
    assert SyncJobHandle[str](handle.id, sync).result() == "hello Ada"
    assert later.cancel() is State.CANCELLED
    with pytest.raises(JobEnded):
        later.cancel()
    assert sync.find(handle.id).id == handle.id


async def test_errors_come_out_as_they_do_from_await(kit: Kit, sync: SyncClient) -> None:
    @kit.registry.job()
    async def fail(times: int) -> None:
        raise LookupError("no such page")

    with pytest.raises(InvalidArguments):
        fail.enqueue_sync("often")  # type: ignore[arg-type]
    with pytest.raises(JobNotFound):
        sync.find("unknown")
    handle = fail.enqueue_sync(1)
    await kit.drain()
    with pytest.raises(JobFailed) as failed:
        handle.result(timeout=5)
    assert isinstance(failed.value.__cause__, LookupError)


async def test_workflows_are_started_and_awaited(kit: Kit, sync: SyncClient) -> None:
    @kit.registry.job()
    async def double(number: int) -> int:
        return number * 2

    @kit.registry.job(max_tries=1)
    async def fail(number: int) -> None:
        raise ValueError

    handle = chain(double.s(1), group(double.s(), double.s())).enqueue_sync()
    bad = sync.start(chain(double.s(1), fail.s()), {"id": f"{kit.queue}-flow"})
    assert handle.workflow().state is WorkflowState.RUNNING
    await kit.drain()
    assert handle.result(timeout=5) == [4, 4]
    assert bad.wait(5).state is WorkflowState.FAILED
    with pytest.raises(WorkflowFailed):
        bad.result()
    bad.retry()
    bad.cancel()
    assert sync.workflow(bad.id).state is WorkflowState.CANCELLED


async def test_many_calls_are_read_in_the_callers_thread(kit: Kit, sync: SyncClient) -> None:
    @kit.registry.job()
    async def count(number: int) -> None: ...

    read_in: set[int] = set()

    def calls(most: int) -> Iterator[object]:
        for number in range(most):
            read_in.add(threading.get_ident())
            yield count.options(id=f"{kit.queue}-{number}").call(number)
        raise OSError("the file ends early")

    with pytest.raises(OSError, match="early"):
        sync.enqueue_many(calls(1500))  # type: ignore[arg-type]
    assert read_in == {threading.get_ident()}
    assert sync.find(f"{kit.queue}-999").state is State.QUEUED
    with pytest.raises(JobNotFound):
        sync.find(f"{kit.queue}-1000")
    assert len(sync.enqueue_many(count.call(number) for number in range(1001))) == 1001
    assert next(record.waiting for record in sync.queues() if record.queue == kit.queue) == 2001
    assert sync.pause_queue(kit.queue)
    assert sync.resume_queue(kit.queue)
    assert sync.purge_queue(kit.queue) == 2001
    assert sync.workers() is not None


async def test_many_threads_share_one(kit: Kit, sync: SyncClient) -> None:
    @kit.registry.job()
    async def nothing() -> None: ...

    found: list[str] = []
    before = portals()

    def queue_some() -> None:
        found.extend(nothing.enqueue_sync().id for _ in range(50))

    threads = [threading.Thread(target=queue_some) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join, 30)
    assert len(set(found)) == 400
    assert len(portals() - before) == 1


def test_redis_that_is_away_is_told_in_time(registry: Registry) -> None:
    @registry.job()
    async def nothing() -> None: ...

    began = time.monotonic()
    with (
        SyncClient(f"redis://127.0.0.1:{free_port()}", registry=registry, budget=1.0),
        pytest.raises(BrokerUnavailable),
    ):
        nothing.enqueue_sync()
    assert time.monotonic() - began < 15


def test_client_that_is_not_open_says_so(registry: Registry, redis_url: str) -> None:
    @registry.job()
    async def nothing() -> None: ...

    with pytest.raises(EmbarqError, match="SyncClient"):
        nothing.enqueue_sync()
    outer, inner = (SyncClient(redis_url, registry=registry) for _ in range(2))
    with outer:
        with inner:
            assert registry.sync_producer is inner
        assert registry.sync_producer is outer
        with pytest.raises(ClientClosed):
            inner.find("any")
    with pytest.raises(ClientClosed, match="closed"):
        outer.find("any")
    with outer, pytest.raises(JobNotFound):
        outer.find("any")


async def test_client_in_use_is_the_latest_that_is_open_in_whatever_order_others_close(
    kit: Kit, redis_url: str
) -> None:
    registry = kit.registry
    first, second = (SyncClient(redis_url, registry=registry) for _ in range(2))
    first.open()
    second.open()
    first.close()
    assert registry.sync_producer is second
    async with inline(registry):
        assert registry.sync_producer is second
        first.open()
    assert registry.sync_producer is first
    first.close()
    second.close()
    with pytest.raises(EmbarqError, match="no sync client"):
        _ = registry.sync_producer


async def test_client_is_lent_until_the_last_of_the_workers_ended(kit: Kit) -> None:
    kit.registry.route([("*", kit.queue)])

    @kit.registry.job()
    async def nothing() -> None: ...

    with ExitStack() as second:
        with lent(kit.client, kit.registry):  # as each worker does
            second.enter_context(lent(kit.client, kit.registry))
        assert (await asyncio.to_thread(nothing.enqueue_sync)).created
    with pytest.raises(EmbarqError, match="no sync client"):
        nothing.enqueue_sync()


async def test_who_waits_is_told_when_it_is_closed(kit: Kit, redis_url: str) -> None:
    @kit.registry.job()
    async def nothing() -> None: ...

    before = portals()
    client = SyncClient(redis_url, registry=kit.registry).open()
    handle = nothing.enqueue_sync()
    waiting = asyncio.create_task(asyncio.to_thread(handle.result))
    await asyncio.sleep(0.2)
    client.close()
    with pytest.raises(ClientClosed):
        await asyncio.wait_for(waiting, 15)
    assert portals() == before


async def test_client_that_is_dropped_unclosed_ends_its_thread(redis_url: str) -> None:
    before = portals()
    clients = [SyncClient(redis_url)]
    with pytest.raises(JobNotFound):
        clients[0].find("any")
    (thread,) = portals() - before

    def drop() -> None:
        clients.clear()
        gc.collect()

    with pytest.warns(ResourceWarning, match="close"):
        drop()
    await asyncio.to_thread(thread.join, 15)
    assert not thread.is_alive()


async def test_it_asks_the_client_what_it_has_no_method_for(sync: SyncClient) -> None:
    async def name(client: Client) -> str:
        return type(client).__name__

    assert sync.ask(name) == "Client"


def run(script: str, tmp_path: Path, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(script))
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "ignore::DeprecationWarning", str(path), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# What asyncio says of slow callbacks in Python's development mode comes at any time on a busy machine.
SCRIPT = """
    import logging, os, sys, time
    from worker import SyncClient, job

    logging.getLogger("asyncio").setLevel(logging.ERROR)

    @job()
    async def note(text: str) -> None: ...

    client = SyncClient(sys.argv[1], budget=30).open()
    queue = sys.argv[2]

    def say(text):
        return note.options(queue=queue, id=f"{queue}-{text}").enqueue_sync(text)
"""


async def test_forked_process_begins_anew_and_leaves_its_parents_connections_alone(
    redis_url: str, client: Client, queue: str, tmp_path: Path
) -> None:
    process = run(
        SCRIPT
        + """
    handle = say("parent")
    for number in range(3):
        if os.fork() == 0:
            say(f"child-{number}")
            client.find(handle.id)
            sys.exit(0)  # all that Python does at its end, which closes what it finds
        say(f"parent-{number}")
        os.wait()
        began = time.monotonic()
        say(f"parent-{number}-after")
        assert time.monotonic() - began < 4, "the parent lost its connection"
    client.close()
    print("done")
""",
        tmp_path,
        redis_url,
        queue,
    )
    out, err = await asyncio.to_thread(process.communicate, timeout=60)
    assert (out, process.returncode) == ("done\n", 0), err
    assert "Exception ignored" not in err
    for name in ("parent", *(f"{who}-{n}{end}" for n in range(3) for who, end in WHO)):
        assert (await client.find(f"{queue}-{name}")).state is State.QUEUED


WHO = (("parent", ""), ("parent", "-after"), ("child", ""))


async def test_process_that_does_not_close_it_ends_all_the_same(
    redis_url: str, client: Client, queue: str, tmp_path: Path
) -> None:
    process = run(SCRIPT + '\n    say("last")\n', tmp_path, redis_url, queue)
    _, err = await asyncio.to_thread(process.communicate, timeout=30)
    assert (process.returncode, err) == (0, "")
    assert (await client.find(f"{queue}-last")).state is State.QUEUED


async def test_wait_is_ended_by_ctrl_c(redis_url: str, queue: str, tmp_path: Path) -> None:
    script = '\n    handle = say("long")\n    print("waiting", flush=True)\n    handle.result()\n'
    process = run(SCRIPT + script, tmp_path, redis_url, queue)
    assert process.stdout is not None
    try:
        said = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 60)
        await asyncio.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.to_thread(process.communicate, timeout=60)
    finally:
        process.kill()
    assert said == "waiting\n", err
    assert process.returncode != 0
    assert "KeyboardInterrupt" in err.splitlines(), err


@pytest.mark.parametrize("is_inline", [False, True])
async def test_plain_function_that_is_a_job_queues_others(kit: Kit, is_inline: bool) -> None:
    kit.registry.route([("*", kit.queue)])

    @kit.registry.job()
    async def one(number: int) -> int:
        return number

    @kit.registry.job()
    def fan_out() -> int:
        handles = [one.enqueue_sync(number) for number in range(5)]
        return sum(handle.result(timeout=15) for handle in handles)

    @kit.registry.job()
    async def blocking() -> None:
        one.enqueue_sync(1)

    running = inline(kit.registry) if is_inline else kit.worker()
    async with running:
        assert await (await fan_out.enqueue()).result(15) == 10
        with pytest.raises(JobFailed, match="await"):
            await (await blocking.enqueue()).result(15)
    with pytest.raises(EmbarqError, match="no sync client"):
        one.enqueue_sync(1)


async def test_inline_mode_runs_the_job_in_the_clients_thread(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    @registry.job()
    async def greet(name: str) -> str:
        return f"hello {name}"

    @registry.job()
    def plain() -> str:
        return greet.enqueue_sync("from a thread").result(timeout=15)

    @registry.job()
    async def blocking() -> str:
        return greet.enqueue_sync("from the loop").result(timeout=15)

    monkeypatch.setenv("EMBARQ_INLINE", "1")
    assert greet.enqueue_sync("Ada").result() == "hello Ada"
    with SyncClient("redis://nowhere.invalid", registry=registry) as client:
        assert plain.enqueue_sync().result() == "hello from a thread"
        failed = blocking.enqueue_sync().job()
        assert failed.error is not None
        assert "await" in failed.error.message
        assert group(greet.s("a"), greet.s("b")).enqueue_sync().result() == ["hello a", "hello b"]
        assert client.queues() == []
