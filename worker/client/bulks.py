"""Many calls, a bulk to a round trip."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar

from worker.broker.batcher import MOST_BYTES
from worker.broker.encoding import pack
from worker.broker.queue_store import NewJob
from worker.core.calls import Call, refusal
from worker.core.options import CALLBACKS

T = TypeVar("T")

BULK = 1000


def in_bulks(calls: Iterable[Call[Any]], most: int) -> Iterator[list[NewJob]]:
    """Calls as jobs, as many as go in one round trip; each takes `most` bytes at most.

    Raises:
        InvalidOptions: a call asks for what only a call alone can have.
        InvalidArguments: a call takes more bytes.
    """
    jobs: list[NewJob] = []
    size = 0
    for call in calls:
        jobs.append(_pack_alone(call, most))
        size += len(jobs[-1].payload)
        if len(jobs) == BULK or size >= MOST_BYTES:
            yield jobs
            jobs, size = [], 0
    if jobs:
        yield jobs


def _pack_alone(call: Call[Any], most: int) -> NewJob:
    clash = next((name for name in (*CALLBACKS, "durable") if name in call.options), None)
    if clash is not None:
        raise refusal(call, clash, f"enqueue_many takes no {clash}")
    return pack(call, most)


async def send_in_turn(
    bulks: Iterable[list[NewJob]], send: Callable[[list[NewJob]], Coroutine[Any, Any, list[T]]]
) -> list[T]:
    """Send one bulk after the other, and pack one while the one before is on its way. What `bulks` or `send` raises is
    raised once nothing is under way any more, and nothing is sent behind it."""
    answers: list[T] = []
    sent: asyncio.Task[list[T]] | None = None
    try:
        for jobs in bulks:
            if sent is not None:
                answers += await sent
            sent = asyncio.create_task(send(jobs))
            await asyncio.sleep(0)
    except asyncio.CancelledError:
        if sent is not None:
            sent.cancel()
        raise
    finally:  # also where the next bulk could not be packed
        if sent is not None:
            answers += await sent
    return answers
