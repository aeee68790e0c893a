"""Text messages through the HTTP provider."""

from typing import Annotated, Literal

from pydantic import Field
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import TypedDict

from jobs.models import Message
from jobs.providers import WHILE_AWAY, MessageRefused, ProviderUnavailable, SmsProvider
from worker import Context, Permanent, RateLimit, Retry, injected, job

PhoneNumber = Annotated[str, Field(pattern=r"^\+?[0-9]{5,15}$")]
LONGEST_DELAY = 300.0


class Refusal(TypedDict):
    """A number that the provider would not send to, and why."""

    number: str
    reason: str


class BulkReport(TypedDict):
    """What became of a bulk of messages."""

    sent: int
    refused: list[Refusal]


class NothingSent(Permanent):
    """The provider refused every message: it is not the numbers that are wrong."""


@job(limits=[RateLimit("100/m")])
async def send_bulk_messages(
    ctx: Context,
    numbers: Annotated[list[PhoneNumber], Field(min_length=1, max_length=10_000)],
    message: Annotated[str, Field(min_length=1, max_length=1600)],
    message_type: Literal["text", "flash"] = "text",
) -> BulkReport:
    """Send one message to many numbers, with progress per message.

    A second run sends nothing twice: each message is sent under a key made of the job and its place, and the provider
    drops a key that it has seen. While the provider is unavailable the job is retried. The job fails when all numbers
    were refused.
    """
    sms = ctx.resource(SmsProvider)
    refused: list[Refusal] = []
    ctx.progress(0, len(numbers))
    for place, number in enumerate(numbers, start=1):
        try:
            await sms.send(number, message, message_type, key=f"{ctx.job_id}:{place}")
        except MessageRefused as error:
            refused.append({"number": number, "reason": str(error)})
        except ProviderUnavailable as error:
            ctx.logger.warning("provider is unavailable", reason=str(error), sent=place - 1)
            raise Retry(delay=min(LONGEST_DELAY, 2.0**ctx.try_number)) from error
        ctx.progress(place, len(numbers), f"{place} of {len(numbers)} sent")
    if len(refused) == len(numbers):
        raise NothingSent(f"all {len(numbers)} numbers were refused, the first one with {refused[0]['reason']}")
    return {"sent": len(numbers) - len(refused), "refused": refused}


TEMPLATES = {
    "reminder": "Dear {name}, {course} continues tomorrow.",
    "code": "Your code is {code}. It is good for ten minutes.",
    "welcome": "Welcome, {name}!",
}


class TemplateProblem(Permanent):
    """The template is unknown, or lacks a value."""


@job(max_tries=8, retry=WHILE_AWAY)
async def send_template_message(
    ctx: Context,
    number: PhoneNumber,
    template: Literal["reminder", "code", "welcome"],
    values: dict[str, str],
    session: AsyncSession = injected,
    sms: SmsProvider = injected,
) -> str:
    """Send a message from a template and keep a record of it; the text. The provider drops a second one of the job."""
    try:
        text = TEMPLATES[template].format_map(values)
    except KeyError as error:
        raise TemplateProblem(f"values must have {error} for the template {template!r}") from error
    key = f"job:{ctx.job_id}"
    await sms.send(number, text, "text", key=key)
    row = insert(Message).values(number=number, message=text, key=key)
    await session.execute(row.on_conflict_do_nothing())
    return text
