"""Jobs that leave a row in the test's own table."""

import asyncio

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

import jobs.resources  # noqa: F401  # provides the session
from worker import injected, job


@job()
async def settle(order: int, seconds: float = 0, session: AsyncSession = injected) -> int:
    """Note the order, once; a second run changes nothing."""
    await asyncio.sleep(seconds)
    await session.execute(text("INSERT INTO settled VALUES (:n) ON CONFLICT DO NOTHING"), {"n": order})
    return order
