"""Workers are killed, Redis is killed, connections are cut; every acknowledged job ends once, in the right state.

`make chaos` runs it at full size. The seed is printed; `CHAOS_SEED` repeats its decisions.
"""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.chaos.checker import SeenTry, leftovers, read_effects
from tests.chaos.flows import make_flow, value_of
from tests.chaos.stage import LEASE, SEED, Stage
from tests.support import CuttingProxy, eventually, free_port
from worker import Client
from worker.broker.events import latest
from worker.core import keys
from worker.core.errors import BrokerUnavailable
from worker.core.workflow import WorkflowState
from worker.core.workflow_graph import Flow
from worker.dev import private_redis

JOBS = int(os.environ.get("CHAOS_JOBS", "1500"))
SECONDS = float(os.environ.get("CHAOS_SECONDS", "15"))
WORKFLOWS = int(os.environ.get("CHAOS_WORKFLOWS", "40"))
RESTARTS = int(os.environ.get("CHAOS_RESTARTS", "2"))
WORKERS = 3
SETTLE_LIMIT = 40 + JOBS / 100
KINDS = {"quick": 80, "sleeper": 5, "retrying": 6, "failing": 4, "threaded": 4, "processed": 1}


@dataclass
class Arena(Stage):
    """A stage of which everything is broken: also Redis, and the connections to it."""

    redis_port: int = field(default_factory=free_port)
    servers: ExitStack = field(default_factory=ExitStack)
    flows: dict[str, Flow] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.proxy = CuttingProxy(self.redis_port)

    def start_redis(self) -> None:
        self.servers.enter_context(private_redis(self.folder / "redis", port=self.redis_port, fsync="always"))

    def kill_redis(self) -> None:
        pid = int((self.folder / "redis" / "pid").read_text())
        os.kill(pid, signal.SIGKILL)
        self.servers.close()  # waits for the end of its guard
        self.counts["redis restarts"] += 1

    def strike(self) -> None:
        """Kill or stop a random worker, and start another in its place."""
        how = self.chance.choice([signal.SIGKILL, signal.SIGTERM])
        self.stop(self.chance.choice(self.workers), how)
        self.counts[f"workers given {how.name}"] += 1
        self.start_worker()

    async def freeze(self) -> None:
        """Stop a random worker for longer than its lease, and let it go on."""
        worker = self.chance.choice(self.workers)
        self.frozen.add(worker.pid)
        self.counts["workers frozen"] += 1
        worker.send_signal(signal.SIGSTOP)
        await asyncio.sleep(1.5 * LEASE)
        worker.send_signal(signal.SIGCONT)

    def close(self) -> None:
        try:
            super().close()
        finally:
            self.servers.close()


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Arena]:
    made = Arena(tmp_path, redis_url="")
    made.start_redis()
    yield made
    made.close()


async def produce_flows(arena: Arena, client: Client) -> None:
    """Start workflows at an even rate, and remember those that were acknowledged."""
    started = time.monotonic()
    for number in range(WORKFLOWS):
        await asyncio.sleep(max(0.0, started + number * SECONDS / WORKFLOWS - time.monotonic()))
        flow = make_flow(arena.chance)
        while True:
            with suppress(BrokerUnavailable):
                handle = await client.start(flow, {})
                arena.flows[handle.id] = flow
                break
            arena.counts["refused"] += 1


async def flows_ended(arena: Arena, client: Client, effects: dict[str, list[SeenTry]]) -> list[str]:
    """What is wrong with the workflows: each gives what can be reckoned, and each of its jobs ran and ended well."""
    wrong = []
    for workflow_id, flow in arena.flows.items():
        workflow = await client.wait_for_workflow(workflow_id, 60)
        if (workflow.state, workflow.result) != (WorkflowState.SUCCEEDED, value_of(flow)):
            wrong.append(f"{workflow_id} {workflow.state}: {workflow.result}, not {value_of(flow)}; {workflow.error}")
        for step in workflow.steps:
            ran = step.job_id is None or any(each.events[-1] == "end" for each in effects.get(step.job_id, []))
            if step.state != "succeeded" or not ran:
                wrong.append(f"{workflow_id} node {step.node} {step.state}, ran: {ran}")
    return wrong


async def torment(arena: Arena) -> None:
    """Break something every second."""
    moments = sorted(arena.chance.sample(range(1, max(RESTARTS + 1, int(SECONDS))), RESTARTS))
    async with asyncio.TaskGroup() as thaws:
        for second in range(int(SECONDS)):
            await asyncio.sleep(1)
            arena.strike()
            if second % 5 == 0:
                thaws.create_task(arena.freeze())
            if arena.chance.random() < 0.5:
                arena.proxy.cut_all()
                arena.counts["times connections were cut"] += 1
            if second in moments:
                await asyncio.to_thread(arena.kill_redis)
                await asyncio.sleep(arena.chance.uniform(0.2, 1.5))
                await asyncio.to_thread(arena.start_redis)


async def queues_empty(client: Client) -> None:
    """Also jobs whose acknowledgement got lost have ended."""

    async def empty() -> bool:
        return not await client.redis.zcard(keys.QUEUE)

    await eventually(empty, timeout=30)


async def left_behind(client: Client) -> list[str]:
    """Keys that stay when all has ended; a reservation for suspects goes by itself within three seconds."""
    for _ in range(10):
        left = leftovers([key.decode() for key in await client.redis.keys("*")])
        if not any(key.startswith(keys.ISOLATING) for key in left):
            break
        await asyncio.sleep(1)
    return left


@pytest.mark.timeout(900)
async def test_nothing_is_lost(arena: Arena, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\nchaos: seed {SEED}, {JOBS} jobs, {SECONDS:.0f} s")
    async with arena.proxy.serve(), Client.open(f"redis://127.0.0.1:{arena.redis_port}/0") as client:
        arena.redis_url = f"redis://127.0.0.1:{arena.proxy.port}/0"
        for _ in range(WORKERS):
            arena.start_worker()
        async with asyncio.TaskGroup() as group:
            group.create_task(arena.produce(client, JOBS, SECONDS, KINDS))
            group.create_task(produce_flows(arena, client))
            group.create_task(torment(arena))
        ended = await arena.all_ended(client, SETTLE_LIMIT)
        await queues_empty(client)
        effects = read_effects(arena.effects)
        wrong_flows = await flows_ended(arena, client, effects)
        left = await left_behind(client)
        refused = [event for event in await latest(client.redis, 100_000) if event.name == "refused"]
    account = arena.account(ended, tolerated=0.0)
    with capsys.disabled():
        print(
            account.line(
                "all at once", arena, [f"{len(arena.flows)} workflows", f"{len(refused)} late results refused"]
            )
        )
    assert account.wrong == {}
    assert wrong_flows == []
    assert left == []
    assert arena.counts["redis restarts"] == RESTARTS
