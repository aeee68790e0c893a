from datetime import timedelta

import arq
import pytest
from arq.worker import RetryJob

from tests.support import Kit
from worker import Context, Permanent, Retry, RetryPolicy, State
from worker.core.errors import LONGEST_DELAY
from worker.core.retries import NEVER, next_try_in


class Rejected(Permanent):
    """A job's own permanent error."""


class OwnRetry(arq.Retry):
    """Forgets to call its base."""

    def __init__(self) -> None: ...


ON_CONNECTION = RetryPolicy(on=(ConnectionError,), delay=10, cap=60, jitter=0)


@pytest.mark.parametrize(
    ("error", "policy", "tries", "expected"),
    [
        (ConnectionError(), ON_CONNECTION, 1, 10),
        (ConnectionResetError(), ON_CONNECTION, 2, 20),
        (ConnectionError(), ON_CONNECTION, 4, 60),
        (ConnectionError(), ON_CONNECTION, 5, None),
        (ValueError(), ON_CONNECTION, 1, None),
        (Retry(delay=3), ON_CONNECTION, 1, 3),
        (Retry(delay=3), ON_CONNECTION, 5, None),
        (Retry(delay=0), NEVER, 1, 0),
        (Retry(), ON_CONNECTION, 2, 20),
        (Retry(), NEVER, 1, 0.8),
        (Rejected(), RetryPolicy(on=(Exception,)), 1, None),
        (arq.Retry(defer=3), ON_CONNECTION, 1, 3),
        (arq.Retry(defer=timedelta(minutes=1)), NEVER, 2, 60),
        (arq.Retry(), ON_CONNECTION, 1, 0),
        (arq.Retry(defer=-5), NEVER, 1, 0),
        (arq.Retry(defer=1e12), NEVER, 1, LONGEST_DELAY),
        (arq.Retry(defer=3), NEVER, 5, None),
        (RetryJob(), NEVER, 1, 0),
        (OwnRetry(), NEVER, 1, 0),
        (ConnectionError(), RetryPolicy(on=(OSError,), delay=7, backoff="fixed", jitter=0), 4, 7),
        (ConnectionError(), RetryPolicy(on=(OSError,), delay=1, cap=1e9, jitter=0), 3, 4),
    ],
)
def test_next_try(error: Exception, policy: RetryPolicy, tries: int, expected: float | None) -> None:
    assert next_try_in(error, policy, tries, 5, chance=1) == expected


def test_jitter_takes_away_at_most_its_share() -> None:
    policy = RetryPolicy(delay=100, jitter=0.3)
    assert (policy.delay_after(1, 0), policy.delay_after(1, 1)) == (100, 70)
    assert policy.delay_after(5000, 0) == 600


@pytest.mark.parametrize("wrong", [{"delay": -1}, {"cap": 0}, {"jitter": 1.5}])
def test_policies_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="jitter from 0 to 1"):
        RetryPolicy(**wrong)  # type: ignore[arg-type]  # that is what is tested


@pytest.mark.arq_defect(11)
async def test_named_exceptions_are_tried_again_and_every_try_is_kept(kit: Kit) -> None:
    runs = 0

    @kit.registry.job(retry=RetryPolicy(on=(ConnectionError,), delay=0.02), max_tries=3)
    async def unlucky() -> None:
        nonlocal runs
        runs += 1
        raise ConnectionError(f"no line {runs}")

    handle = await kit.enqueue(unlucky)
    worker = await kit.drain()
    job = await handle.job()
    assert (job.state, job.tries) == (State.FAILED, 3)
    assert [(t.number, t.outcome, t.error.message if t.error else None) for t in job.attempts] == [
        (1, "retry", "no line 1"),
        (2, "retry", "no line 2"),
        (3, "failed", "no line 3"),
    ]
    assert {t.worker for t in job.attempts} == {worker.id}
    assert all(t.finished_at and t.started_at <= t.finished_at for t in job.attempts)


async def test_permanent_errors_and_others_fail_at_once(kit: Kit) -> None:
    @kit.registry.job(retry=RetryPolicy(on=(Exception,), delay=0))
    async def refuse() -> None:
        raise Rejected("never")

    @kit.registry.job(retry=RetryPolicy(on=(ConnectionError,), delay=0))
    async def other() -> None:
        raise ValueError("not named")

    handles = [await kit.enqueue(refuse), await kit.enqueue(other)]
    await kit.drain()
    assert [(await h.job()).tries for h in handles] == [1, 1]
    assert [(await h.job()).state for h in handles] == [State.FAILED] * 2


async def test_kept_tries_are_bounded(kit: Kit) -> None:
    @kit.registry.job(max_tries=30)
    async def always() -> None:
        raise Retry(delay=0)

    handle = await kit.enqueue(always)
    await kit.drain()
    job = await handle.job()
    assert job.tries == 30
    assert [t.number for t in job.attempts] == list(range(10, 31))


async def test_arqs_own_retry_is_understood(kit: Kit) -> None:
    @kit.registry.job(max_tries=3)
    async def shaky(ctx: Context, times: int) -> int:
        if ctx.try_number <= times:
            raise arq.Retry(defer=0.05)
        return ctx.try_number

    @kit.registry.job(max_tries=3)
    def in_a_thread(ctx: Context) -> int:
        if ctx.try_number < 3:
            raise arq.Retry
        return ctx.try_number

    good, bad = await kit.enqueue(shaky, {"times": 2}), await kit.enqueue(shaky, {"times": 9})
    thread = await kit.enqueue(in_a_thread)
    await kit.drain()
    assert (await good.result(15), await thread.result(15)) == (3, 3)
    job = await bad.job()
    assert (job.state, job.tries, job.error and job.error.type) == (State.FAILED, 3, "Retry")
    assert [each.outcome for each in job.attempts] == ["retry", "retry", "failed"]
