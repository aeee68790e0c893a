"""How long a client asks Redis, and what it says of that."""

import asyncio

import pytest

from worker.broker.budget import Budget
from worker.core.errors import BrokerUnavailable


async def test_error_says_how_long_the_caller_has_waited() -> None:
    with pytest.raises(BrokerUnavailable, match=r"did not answer within 0\.7 s"):
        await Budget(0.7).persist(asyncio.Event().wait)
    with pytest.raises(BrokerUnavailable, match=r"did not answer within 0\.5 s"):
        await Budget(5).persist(asyncio.Event().wait, 0.5)
