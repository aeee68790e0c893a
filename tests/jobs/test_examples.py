import pytest

from jobs.examples import echo, flaky, sleep
from tests.support import Kit
from worker import registry


@pytest.fixture
def jobs(kit: Kit) -> Kit:
    return Kit(kit.client, registry, kit.queue)


async def test_echo_takes_any_json(jobs: Kit) -> None:
    value = {"a": [1, 2.5, None, True, "x"]}
    handle = await jobs.enqueue(echo, {"value": value})
    await jobs.drain()
    assert await handle.result(timeout=1) == value


async def test_flaky_succeeds_at_the_try_after_its_failures(jobs: Kit) -> None:
    handle = await jobs.enqueue(flaky, {"fail_times": 2})
    await jobs.drain()
    assert await handle.result(timeout=1) == 3


async def test_sleep_returns_its_seconds() -> None:
    assert await sleep(seconds=0.01) == 0.01
