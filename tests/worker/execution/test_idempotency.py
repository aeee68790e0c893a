"""Steps and effects that happen once, also when a try is lost in the middle."""

import asyncio
import uuid

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from tests.support import Kit
from worker import Context, Retry, State
from worker.core.errors import LeaseLost
from worker.database.idempotency import once_in


async def test_recorded_step_does_not_run_again(kit: Kit) -> None:
    ran: list[int] = []

    @kit.registry.job()
    async def pays(ctx: Context) -> dict[str, int]:
        async def charge() -> dict[str, int]:
            ran.append(ctx.try_number)
            return {"receipt": ctx.try_number}

        receipt = await ctx.once(kit.queue, charge)
        if ctx.try_number == 1:
            raise Retry(delay=0)
        return receipt

    async with kit.worker():
        job = await kit.ended((await kit.enqueue(pays)).id)
        other = await kit.ended((await kit.enqueue(pays)).id)
    assert (job.result, job.tries) == ({"receipt": 1}, 2)
    assert other.result == {"receipt": 1}
    assert ran == [1]


async def test_step_that_raised_runs_again(kit: Kit) -> None:
    @kit.registry.job()
    async def pays(ctx: Context) -> int:
        async def charge() -> int:
            if ctx.try_number == 1:
                raise Retry(delay=0)
            return ctx.try_number

        return await ctx.once(kit.queue, charge)

    async with kit.worker():
        assert (await kit.ended((await kit.enqueue(pays)).id)).result == 2


async def test_two_jobs_are_not_inside_one_step_together(kit: Kit) -> None:
    inside: list[int] = []

    @kit.registry.job()
    async def pays(ctx: Context) -> str:
        async def charge() -> str:
            inside.append(1)
            await asyncio.sleep(0.3)
            return ctx.job_id

        return await ctx.once(kit.queue, charge)

    async with kit.worker():
        handles = [await kit.enqueue(pays) for _ in range(5)]
        receipts = {(await kit.ended(handle.id)).result for handle in handles}
    assert len(receipts) == 1
    assert len(inside) == 1


async def test_step_of_a_worker_that_fell_silent_runs_again(kit: Kit) -> None:
    """Its lease is taken away while it is inside the step; it may then record nothing."""
    inside = asyncio.Event()
    faults: list[str] = []

    @kit.registry.job()
    async def pays(ctx: Context) -> int:
        async def charge() -> int:
            if ctx.try_number == 1:
                inside.set()
                with pytest.raises(asyncio.CancelledError):
                    await asyncio.sleep(30)
            return ctx.try_number

        try:
            return await ctx.once(kit.queue, charge)
        except LeaseLost as error:
            faults.append(str(error))
            raise

    async with kit.worker(lease=1.0):
        handle = await kit.enqueue(pays)
        await inside.wait()
        await kit.client.redis.delete(f"arq:in-progress:{handle.id}")
        job = await kit.ended(handle.id)
    assert (job.state, job.result) == (State.SUCCEEDED, 2)
    assert faults == [f"the lease of job {handle.id} was lost"]


async def test_called_directly_a_step_just_runs() -> None:
    async def step() -> int:
        return 7

    assert await Context(job_id="x", job="y").once("key", step) == 7


async def add_credits(engine: AsyncEngine, key: str, *, commit: bool = True) -> bool:
    async with AsyncSession(engine) as session:
        first = await once_in(session, key)
        if first:
            await session.execute(text("UPDATE embarq_test_credits SET amount = amount + 10"))
        await (session.commit() if commit else session.rollback())
        return first


@pytest.fixture
async def credits(migrated: AsyncEngine) -> AsyncEngine:
    async with migrated.begin() as connection:
        await connection.execute(text("DROP TABLE IF EXISTS embarq_test_credits"))
        await connection.execute(text("CREATE TABLE embarq_test_credits AS SELECT 0 AS amount"))
    return migrated


async def amount(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return int((await connection.execute(text("SELECT amount FROM embarq_test_credits"))).scalar_one())


async def test_effect_in_the_database_happens_once(credits: AsyncEngine) -> None:
    key = f"credits:{uuid.uuid4()}"
    assert await add_credits(credits, key, commit=False)
    assert await amount(credits) == 0
    firsts = await asyncio.gather(*(add_credits(credits, key) for _ in range(10)))
    assert sorted(firsts) == [False] * 9 + [True]
    assert await amount(credits) == 10
