import json
from collections.abc import Callable

import httpx
import pytest

from jobs.messaging import NothingSent, send_bulk_messages
from jobs.providers import MessageRefused, ProviderUnavailable, SmsProvider
from worker import Context, Retry


def provider(answer: Callable[[httpx.Request], httpx.Response]) -> SmsProvider:
    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return SmsProvider(http, "http://provider.test/messages")


def context(sms: SmsProvider, try_number: int = 1) -> Context:
    return Context(job_id="j1", job="send_bulk_messages", try_number=try_number, resources={SmsProvider: sms})


async def run(ctx: Context, numbers: list[str]) -> object:
    returned = send_bulk_messages.invoke(ctx, (), {"numbers": numbers, "message": "hello"})
    return await returned  # type: ignore[misc]  # the job is a coroutine


async def test_each_number_gets_its_message_under_a_key_of_its_own() -> None:
    got: list[tuple[str, dict[str, str]]] = []

    def accept(request: httpx.Request) -> httpx.Response:
        got.append((request.headers["Idempotency-Key"], json.loads(request.content)))
        return httpx.Response(201)

    ctx = context(provider(accept))
    assert await run(ctx, ["+15550100", "+15550101"]) == {"sent": 2, "refused": []}
    assert got == [
        ("j1:1", {"to": "+15550100", "message": "hello", "message_type": "text"}),
        ("j1:2", {"to": "+15550101", "message": "hello", "message_type": "text"}),
    ]
    assert ctx.last_progress is not None
    assert (ctx.last_progress.current, ctx.last_progress.percent) == (2, 100.0)


async def test_refused_numbers_are_reported_and_others_sent() -> None:
    def refuse_first(request: httpx.Request) -> httpx.Response:
        return httpx.Response(422, text="unknown number") if b"+15550100" in request.content else httpx.Response(201)

    report = await run(context(provider(refuse_first)), ["+15550100", "+15550101"])
    assert report == {"sent": 1, "refused": [{"number": "+15550100", "reason": "422: unknown number"}]}


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_provider_away_asks_for_another_try(status: int) -> None:
    with pytest.raises(Retry) as caught:
        await run(context(provider(lambda _: httpx.Response(status)), try_number=3), ["+15550100"])
    assert caught.value.delay == 8


async def test_errors_of_the_provider_are_told_apart() -> None:
    def broken(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route")

    with pytest.raises(ProviderUnavailable, match="no route"):
        await provider(broken).send("+15550100", "m", "text", key="k")
    with pytest.raises(MessageRefused, match="400"):
        await provider(lambda _: httpx.Response(400)).send("+15550100", "m", "text", key="k")


async def test_bulk_of_which_nothing_was_sent_fails() -> None:
    with pytest.raises(NothingSent, match="all 2 numbers were refused, the first one with 404"):
        await run(context(provider(lambda _: httpx.Response(404, text="no such page"))), ["+15550100", "+15550101"])
