"""Who may name which queue, while Redis hangs."""

import asyncio
import time
from urllib.parse import urlsplit

from tests.support import CuttingProxy, Kit
from worker import Client
from worker.core.errors import BrokerUnavailable
from worker.http.known_queues import KnownQueues


async def test_all_who_ask_while_redis_hangs_are_told_at_once(kit: Kit, redis_url: str) -> None:
    @kit.registry.job()
    async def work() -> None: ...

    async with (
        CuttingProxy(urlsplit(redis_url).port or 0).serve() as proxy,
        Client.open(f"redis://127.0.0.1:{proxy.port}", budget=0.5) as behind,
    ):
        known = KnownQueues(behind, frozenset(), is_open=False)
        proxy.passes.clear()
        began = time.monotonic()
        answers = await asyncio.gather(*(known.unknown([kit.queue]) for _ in range(10)), return_exceptions=True)
        took = time.monotonic() - began
        proxy.passes.set()
        assert {type(answer) for answer in answers} == {BrokerUnavailable}
        assert took < 2.0
        async with kit.worker():
            assert await known.unknown([kit.queue, "nobody's"]) == {"nobody's"}
