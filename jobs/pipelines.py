"""Pipelines: a chain over a text, a group over files, a chord over numbers."""

import re
from collections import Counter
from typing import Annotated

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import TypedDict

from jobs.files import process_large_file
from jobs.lookups import Id
from jobs.notifications import notify
from worker import Context, chain, chord, group, injected, job

Text = Annotated[str, Field(min_length=1, max_length=1_000_000)]


class Analysis(TypedDict):
    """Words of a text: how many, how many different ones, and the most frequent with their counts."""

    words: int
    different: int
    most: list[tuple[str, int]]


@job()
async def preprocess(text: Text) -> list[str]:
    """A text's words in small letters. Running it twice changes nothing."""
    return re.findall(r"\w+", text.lower())


@job()
async def analyse(words: list[str]) -> Analysis:
    """Count words. Running it twice changes nothing."""
    counted = Counter(words)
    return {"words": counted.total(), "different": len(counted), "most": counted.most_common(5)}


@job()
async def write_report(analysis: Analysis) -> str:
    """Say it in a sentence. Running it twice changes nothing."""
    most = ", ".join(f"{word} ({count})" for word, count in analysis["most"])
    return f"{analysis['words']} words, {analysis['different']} different; most frequent: {most}"


@job(queue="notifications")
async def notify_report(ctx: Context, report: str, user_id: Id, session: AsyncSession = injected) -> str:
    """Put a report into a user's inbox, once."""
    await notify(session, user_id, "Your text", report[:1000], f"job:{ctx.job_id}")
    return report


@job()
async def process_text(ctx: Context, text: Text, user_id: Id) -> str:
    """Start preprocess → analyse → report → notify; the workflow's id, which a second run finds again."""
    flow = chain(preprocess.s(text), analyse.s(), write_report.s(), notify_report.s(user_id=user_id))
    return (await flow.enqueue(id=f"{ctx.job_id}~text")).id


@job()
async def process_files(ctx: Context, paths: Annotated[list[str], Field(min_length=1, max_length=10_000)]) -> str:
    """Start a group that reads many files of the store; the workflow's id, which a second run finds again."""
    flow = group(process_large_file.s(path=path) for path in paths)
    return (await flow.enqueue(id=f"{ctx.job_id}~files", on_failure="continue")).id


@job()
async def process_item(item: int) -> int:
    """An item's value: its square. Running it twice changes nothing."""
    return item * item


@job()
async def sum_values(values: list[int]) -> int:
    """Add up. Running it twice changes nothing."""
    return sum(values)


@job()
async def process_batch(ctx: Context, items: Annotated[list[int], Field(max_length=10_000)]) -> str:
    """Start a job for each item and one that adds up; the workflow's id, which a second run finds again."""
    flow = chord((process_item.s(item) for item in items), sum_values.s())
    return (await flow.enqueue(id=f"{ctx.job_id}~items")).id
