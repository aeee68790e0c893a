"""Workers are killed, Redis is killed, connections are cut; every acknowledged job ends once, in the right state.

`make chaos` runs it at full size. The seed is printed; `CHAOS_SEED` repeats its decisions.
"""

import asyncio
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.chaos import jobs as _jobs  # noqa: F401  # registers the kinds for the client
from tests.chaos.checker import Try, leftovers, problems_of, read_effects
from tests.chaos.flows import make_flow, value_of
from tests.support import CuttingProxy, eventually, free_port, start_embarq
from worker import Client, Job, registry
from worker.broker import keys
from worker.broker.events import latest
from worker.embedded import private_redis
from worker.errors import BrokerUnavailable
from worker.workflow_records import WorkflowState
from worker.workflows import Flow

JOBS = int(os.environ.get("CHAOS_JOBS", "1500"))
SECONDS = float(os.environ.get("CHAOS_SECONDS", "15"))
WORKFLOWS = int(os.environ.get("CHAOS_WORKFLOWS", "40"))
RESTARTS = int(os.environ.get("CHAOS_RESTARTS", "2"))
SEED = int(os.environ.get("CHAOS_SEED", random.randrange(10**6)))
WORKERS = 3
LEASE = 2.0
SETTLE_LIMIT = 40 + JOBS / 100
KINDS = {"quick": 80, "sleeper": 5, "retrying": 6, "failing": 4, "threaded": 4, "processed": 1}


@dataclass
class Arena:
    """Everything that is broken, and the counts of it."""

    folder: Path
    chance: random.Random
    redis_port: int
    proxy: CuttingProxy
    servers: ExitStack
    workers: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    acknowledged: dict[str, str] = field(default_factory=dict)
    flows: dict[str, Flow] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    gone: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    told_to_stop: set[int] = field(default_factory=set)
    frozen: set[int] = field(default_factory=set)

    def start_redis(self) -> None:
        self.servers.enter_context(private_redis(self.folder / "redis", port=self.redis_port, fsync="always"))

    def kill_redis(self) -> None:
        pid = json.loads((self.folder / "redis" / "server.json").read_text())["pid"]
        os.kill(pid, signal.SIGKILL)
        self.servers.close()  # reaps the process
        self.counts["redis restarts"] += 1

    def start_worker(self) -> None:
        environment = {
            "REDIS_URL": f"redis://127.0.0.1:{self.proxy.port}/0",
            "EMBARQ_JOBS": "tests.chaos.jobs,tests.chaos.flows",
            "EMBARQ_LEASE": str(LEASE),
            "EMBARQ_GRACE": "0.5",
            "EMBARQ_CANCEL_GRACE": "0.5",
            "EMBARQ_LEASES_LOST_LIMIT": "1000",
            "EMBARQ_LOG_LEVEL": "WARNING",
            "CHAOS_EFFECTS": str(self.folder / "effects"),
        }
        self.workers.append(start_embarq("worker", "-c", "30", log=self.folder / "workers.log", **environment))

    def strike(self) -> None:
        """Kill or stop a random worker, and start another in its place."""
        worker = self.workers.pop(self.chance.randrange(len(self.workers)))
        how = self.chance.choice([signal.SIGKILL, signal.SIGTERM])
        worker.send_signal(how)
        if how is signal.SIGTERM:
            self.told_to_stop.add(worker.pid)
        self.counts[f"workers given {how.name}"] += 1
        self.gone.append(worker)
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
        for worker in self.workers:
            worker.terminate()
        for worker in [*self.workers, *self.gone]:
            worker.wait(20)
        self.servers.close()


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Arena]:
    (tmp_path / "effects").mkdir()
    port = free_port()
    made = Arena(tmp_path, random.Random(SEED), port, CuttingProxy(port), ExitStack())
    made.start_redis()
    yield made
    made.close()


async def produce(arena: Arena, client: Client) -> None:
    """Enqueue at an even rate, and remember what was acknowledged."""
    kinds = arena.chance.choices(list(KINDS), list(KINDS.values()), k=JOBS)
    started = time.monotonic()
    for number, kind in enumerate(kinds):
        await asyncio.sleep(max(0.0, started + number * SECONDS / JOBS - time.monotonic()))
        while True:
            with suppress(BrokerUnavailable):
                handle = await client.enqueue(registry.get(kind).call())
                arena.acknowledged[handle.id] = kind
                break
            arena.counts["enqueues refused"] += 1


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
            arena.counts["enqueues refused"] += 1


async def flows_ended(arena: Arena, client: Client, effects: dict[str, list[Try]]) -> list[str]:
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


async def all_ended(arena: Arena, client: Client) -> dict[str, Job]:
    """Every acknowledged job, ended."""
    ended: dict[str, Job] = {}
    deadline = time.monotonic() + SETTLE_LIMIT
    while len(ended) < len(arena.acknowledged):
        waiting = [job_id for job_id in arena.acknowledged if job_id not in ended]
        assert time.monotonic() < deadline, [await client.find(job_id) for job_id in waiting[:5]]
        for job_id in waiting:
            job = await client.find(job_id)
            if job.state.ended:
                ended[job_id] = job
        await asyncio.sleep(0.2)
    return ended


async def queues_empty(client: Client) -> None:
    """Also jobs whose acknowledgement got lost have ended."""

    async def empty() -> bool:
        return not await client.zcard(keys.QUEUE)

    await eventually(empty, timeout=30)


@pytest.mark.timeout(900)
async def test_nothing_is_lost(arena: Arena, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\nchaos: seed {SEED}, {JOBS} jobs, {SECONDS:.0f} s")
    async with arena.proxy.serve(), Client.open(f"redis://127.0.0.1:{arena.redis_port}/0") as client:
        for _ in range(WORKERS):
            arena.start_worker()
        async with asyncio.TaskGroup() as group:
            group.create_task(produce(arena, client))
            group.create_task(produce_flows(arena, client))
            group.create_task(torment(arena))
        ended = await all_ended(arena, client)
        await queues_empty(client)
        effects = read_effects(arena.folder / "effects")
        wrong_flows = await flows_ended(arena, client, effects)
        left = leftovers([key.decode() for key in await client.keys("*")])
        refused = [event for event in await latest(client, 100_000) if event.name == "refused"]
    wrong = {
        job_id: problems_of(job, arena.acknowledged[job_id], effects[job_id], arena.told_to_stop, arena.frozen)
        for job_id, job in ended.items()
    }
    reruns = sum(len(effects[job_id]) - 1 for job_id in ended)
    with capsys.disabled():
        facts = {
            "jobs": len(ended),
            "workflows": len(arena.flows),
            "reruns": reruns,
            "late results refused": len(refused),
            **arena.counts,
        }
        print("chaos: " + ", ".join(f"{count} {name}" for name, count in facts.items()))
    assert {job_id: found for job_id, found in wrong.items() if found} == {}
    assert wrong_flows == []
    assert left == []
    assert arena.counts["redis restarts"] == RESTARTS
