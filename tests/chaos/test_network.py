"""Packets that vanish, and a primary that is none any more: what is acknowledged ends well, and no job runs twice at
once."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.chaos.namespaces import PORT, Wire, why_not, wired_redis
from tests.chaos.stage import LEASE, Stage
from tests.chaos.switch import Switch
from tests.support import eventually, free_port
from worker import Client
from worker.dev import private_redis

SCALE = int(os.environ.get("CHAOS_SCALE", "1"))
NO_NAMESPACES = why_not()
CUT = 2 * LEASE


@pytest.fixture
def wired(tmp_path: Path) -> Iterator[tuple[str, list[Wire]]]:
    if NO_NAMESPACES:
        pytest.skip(NO_NAMESPACES)
    with wired_redis(tmp_path, 2) as found:
        yield found


@pytest.mark.timeout(120 + 60 * SCALE)
async def test_dropped_packets(
    tmp_path: Path, wired: tuple[str, list[Wire]], capsys: pytest.CaptureFixture[str]
) -> None:
    """One worker after the other is cut off without a reset for two leases, in both directions."""
    url, wires = wired
    stage = Stage(tmp_path, url)
    rounds = 2 * SCALE
    with ExitStack() as stack:
        stack.callback(stage.close)
        for wire in wires:
            stage.start_worker(prefix=wire.inside, REDIS_URL=f"redis://{wire.address}:{PORT}/0")
        async with Client.open(url) as client:
            await eventually(lambda: live(client, len(wires)), 30)
            kinds = {"quick": 80, "steady": 10, "marathon": 10}
            async with asyncio.TaskGroup() as group:
                group.create_task(stage.produce(client, 150 * rounds, 6.0 * rounds, kinds))
                for number in range(rounds):
                    await cut_off(wires[number % len(wires)], stage)
            ended = await stage.all_ended(client, 60)
    account = stage.account(ended)
    with capsys.disabled():
        print(account.line("dropped packets", stage))
    assert account.wrong == {}


async def cut_off(wire: Wire, stage: Stage) -> None:
    await asyncio.sleep(1)
    wire.drop()
    stage.counts["times cut off"] += 1
    await asyncio.sleep(CUT)
    wire.restore()
    await asyncio.sleep(1)


async def live(client: Client, count: int) -> bool:
    return len(await client.workers()) >= count


@dataclass
class Pair:
    """A primary and its replica, and the switch through which all find the primary."""

    ports: list[int]
    switch: Switch

    async def follow(self) -> None:
        """Make the second one a replica that has all."""
        primary, replica = self.ports
        async with at(replica) as there:
            await there.execute_command("REPLICAOF", "127.0.0.1", primary)
        await self._caught_up()

    async def fail_over(self) -> None:
        """The replica takes over with all that it was sent; the old primary follows it. No connection is cut."""
        primary, replica = self.ports
        async with at(primary) as old, at(replica) as new:
            await old.execute_command("CLIENT", "PAUSE", 20_000, "WRITE")
            await self._caught_up()
            self.switch.target = replica
            await new.execute_command("REPLICAOF", "NO", "ONE")
            await old.execute_command("REPLICAOF", "127.0.0.1", replica)
            await old.execute_command("CLIENT", "UNPAUSE")
        self.ports.reverse()

    async def _caught_up(self) -> None:
        primary, replica = self.ports
        async with at(primary) as old, at(replica) as new:

            async def same() -> bool:
                here, there = await old.info("replication"), await new.info("replication")
                up = there.get("master_link_status") == "up"
                return up and bool(here["master_repl_offset"] == there.get("slave_repl_offset"))

            await eventually(same, 20)


def at(port: int) -> Redis:
    return Redis(host="127.0.0.1", port=port)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with ExitStack() as stack:
        ports = [free_port(), free_port()]
        for port in ports:
            stack.enter_context(private_redis(tmp_path / str(port), port=port))
        yield Pair(ports, Switch(ports[0]))


@pytest.mark.timeout(120 + 30 * SCALE)
async def test_demoted_primary(tmp_path: Path, pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    """A failover that cuts no connection: who still talks to the old primary is refused, and must find the new one."""
    await pair.follow()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(pair.switch.serve())
        stage = Stage(tmp_path, f"redis://127.0.0.1:{pair.switch.port}/0")
        stack.callback(stage.close)
        client = await stack.enter_async_context(Client.open(stage.redis_url))
        for _ in range(2):
            stage.start_worker()
        await eventually(lambda: live(client, 2), 30)
        async with asyncio.TaskGroup() as group:
            group.create_task(stage.produce(client, 500 * SCALE, 8.0 * SCALE, {"quick": 80, "steady": 20}))
            for _ in range(SCALE):
                await asyncio.sleep(3)
                await pair.fail_over()
                stage.counts["failovers"] += 1
                await asyncio.sleep(5)
        ended = await stage.all_ended(client, 40)
    account = stage.account(ended)
    with capsys.disabled():
        print(account.line("demoted primary", stage))
    assert account.wrong == {}
    assert stage.counts["refused"] <= 5 * SCALE, "the client stays with a primary that is none any more"
