"""Jobs of clients who do nothing wrong, and what each of them must give."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import JsonValue

from jobs.examples import echo
from worker import Client, ConcurrencyLimit, RateLimit, Registry, State, chain, group, job
from worker.core.workflow import WorkflowState
from worker.http.schemas import BASE

QUEUE = "innocent"
BOUND = 30.0  # seconds that an innocent job may take from its acknowledgement, noise of the machine included


@job(queue=QUEUE)
async def plain(value: JsonValue) -> JsonValue:
    """Return the value."""
    return value


@job(queue=QUEUE, limits=[RateLimit("500/s")])
async def rated(value: int) -> int:
    """One of many that may start so often."""
    return value


@job(queue=QUEUE, limits=[ConcurrencyLimit(2)])
async def gated(value: int) -> int:
    """One of two at a time."""
    await asyncio.sleep(0.002)
    return value


@job(queue=QUEUE)
async def added(values: list[int]) -> int:
    """The sum."""
    return sum(values)


ALL = (plain, rated, gated, added)


def small_registry() -> Registry:
    """A registry of these jobs, and of one that everybody may call."""
    made = Registry()
    for definition in (*ALL, echo):
        made.add(definition)
    return made


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A job, or workflow, that somebody was told is queued, and what it must give."""

    id: str
    kind: str
    expected: Any
    is_workflow: bool = False

    async def fault(self, client: Client) -> str | None:
        """What is wrong with it once the bound is over; None when it ended well."""
        try:
            return await (self._fault_of_workflow(client) if self.is_workflow else self._fault_of_job(client))
        except Exception as error:
            return f"{self.kind} {self.id}: {type(error).__name__}: {error}"

    async def _fault_of_job(self, client: Client) -> str | None:
        job = await client.wait_for(self.id, BOUND)
        if (job.state, job.result) == (State.SUCCEEDED, self.expected):
            return None
        return (
            f"{self.kind} {self.id} is {job.state} in {job.queue} after {job.tries} tries: {job.result!r} {job.error}"
        )

    async def _fault_of_workflow(self, client: Client) -> str | None:
        found = await client.wait_for_workflow(self.id, BOUND)
        if (found.state, found.result) == (WorkflowState.SUCCEEDED, self.expected):
            return None
        return f"workflow {self.id} is {found.state}: {found.result!r} {found.error} {found.steps}"


class Refused(AssertionError):
    """An innocent call was not acknowledged."""


@dataclass(slots=True)
class Innocents:
    """Clients over HTTP and in Python. `acknowledged` grows with what was queued."""

    client: Client
    http: httpx.AsyncClient
    acknowledged: list[Acknowledged]
    count: int = 0

    async def call_once_each(self) -> None:
        """One call of each kind, side by side."""
        kinds: tuple[Callable[[int], Awaitable[None]], ...] = (
            self.post,
            self.post_limited,
            self.post_bulk,
            self.post_flow,
            self.post_unique,
            self.call_delayed,
            self.call_limited,
            self.start_flow,
        )
        numbers = range(self.count, self.count + len(kinds))
        self.count += len(kinds)
        await asyncio.gather(*(call(number) for call, number in zip(kinds, numbers, strict=True)))

    async def post(self, number: int) -> None:
        value = {"n": number, "text": "Zoë 🦜", "list": [1, [2, {"x": None}]]}
        answer = await self._post("/jobs", {"job": "plain", "args": {"value": value}}, 202)
        self._keep(answer["id"], "posted", value)

    async def post_limited(self, number: int) -> None:
        body = {"job": "gated", "args": {"value": number}, "options": {"priority": "high", "tags": ["mine"]}}
        answer = await self._post("/jobs", body, 202)
        self._keep(answer["id"], "gated", number)

    async def post_bulk(self, number: int) -> None:
        jobs = [{"job": "plain", "args": {"value": [number, n]}} for n in range(3)]
        answer = await self._post("/jobs/bulk", {"jobs": jobs}, 202)
        for n, each in enumerate(answer["jobs"]):
            if "id" not in each:
                raise Refused(f"one of a bulk: {each}")
            self._keep(each["id"], "of a bulk", [number, n])

    async def post_flow(self, number: int) -> None:
        members = [{"job": "plain", "args": {"value": n}} for n in (number, 1, 2)]
        body = {"chord": {"group": members, "callback": {"job": "added"}}}
        answer = await self._post("/workflows", body, 202)
        self._keep(answer["id"], "flow", number + 3, is_workflow=True)

    async def post_unique(self, number: int) -> None:
        body = {"job": "plain", "args": {"value": f"unique {number}"}, "options": {"unique_for": 60}}
        first = await self._post("/jobs", body, 202)
        second = await self._post("/jobs", body, 200)
        if first["id"] != second["id"]:
            raise Refused(f"a unique call made two jobs: {first['id']} and {second['id']}")
        self._keep(first["id"], "unique", f"unique {number}")

    async def call_delayed(self, number: int) -> None:
        handle = await plain.options(delay=0.3).enqueue(number)
        self._keep(handle.id, "delayed", number)

    async def call_limited(self, number: int) -> None:
        handle = await self.client.enqueue(rated.call(number))
        self._keep(handle.id, "rated", number)

    async def start_flow(self, number: int) -> None:
        flow = chain(group(plain.s(n) for n in range(3)), added.s(), plain.s())
        handle = await self.client.start(flow, {})
        self._keep(handle.id, "chain", 3, is_workflow=True)

    def _keep(self, job_id: str, kind: str, expected: Any, *, is_workflow: bool = False) -> None:
        self.acknowledged.append(Acknowledged(job_id, kind, expected, is_workflow))

    async def _post(self, path: str, body: dict[str, Any], expected: int) -> dict[str, Any]:
        answer = await self.http.post(f"{BASE}{path}", json=body)
        if answer.status_code != expected:
            raise Refused(f"POST {path} {body}: {answer.status_code} {answer.text[:500]}")
        return dict(answer.json())
