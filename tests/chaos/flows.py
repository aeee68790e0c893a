"""Nested workflows for the chaos test, and what each of them must give."""

import asyncio
import random
from typing import Any

from tests.chaos.jobs import note
from worker import Context, Signature, chain, group, job
from worker.core.workflow_graph import Chain, Flow

DEEPEST = 3


@job()
async def leaf(ctx: Context, value: int) -> int:
    note(ctx, "start")
    note(ctx, "end")
    return value


@job()
async def grow(ctx: Context, value: int, by: int) -> int:
    note(ctx, "start")
    await asyncio.sleep(0.02)
    note(ctx, "end")
    return value + by


@job()
async def gather(ctx: Context, values: list[int]) -> int:
    note(ctx, "start")
    note(ctx, "end")
    return sum(values)


def make_flow(chance: random.Random, depth: int = 0) -> Flow:
    """A flow that gives a number: a leaf, or groups of flows that are gathered, with steps behind."""
    if depth == DEEPEST or chance.random() < 0.2:
        return leaf.s(chance.randrange(100))
    members = [make_flow(chance, depth + 1) for _ in range(chance.randint(1, 3))]
    steps = [grow.s(chance.randrange(10)) for _ in range(chance.randint(0, 2))]
    return chain(group(members), gather.s(), *steps)


def value_of(flow: Flow, before: Any = None) -> Any:
    """What a flow gives, reckoned without a queue."""
    if isinstance(flow, Chain):
        for step in flow.steps:
            before = value_of(step, before)
        return before
    if not isinstance(flow, Signature):
        return [value_of(member, before) for member in flow.members]
    if flow.definition is leaf:
        return flow.args[0]
    return sum(before) if flow.definition is gather else before + flow.args[0]
