"""Random requests at every endpoint, while an innocent client works: no 500, and nothing of the innocent is touched.

The seed is fixed, so that a failure comes again; `CASES=50000` asks for more than the usual number.
"""

import os
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any

import httpx
import pytest

from settings import Settings
from tests.api.conftest import serving
from tests.support import Kit
from worker import Client, registry
from worker.dev import private_redis

CASES = int(os.environ.get("CASES", "1500"))
SEED = int(os.environ.get("SEED", "1"))

NUMBERS = [0, -1, 0.0005, 1e-9, 0.5, 1, 5, 60, 3600, 1e300, -1e300, 2**31, 2**53, 2**63, 2**64, 10**30]
TEXTS = ["", "x", "x" * 300, "\0", "~", "a~b", "é", "😀", "\n", "%", "a b", "../../x", "NaN", "1e5", "10"]
TIMES = ["2026-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+23:00", "1970-01-01T00:00:00"]
WORDS = ["default", "health-check", "high", "echo", "* * * * *", "0 3 * * *", "UTC", "a@example.com", "+15550100"]
OTHERS: list[Any] = [None, True, False, [], {}, [1], {"a": 1}, ["a"] * 30, {"job": "echo", "args": {"value": 1}}]
OPTIONS = [
    "id",
    "queue",
    "priority",
    "delay",
    "run_at",
    "expires_in",
    "soft_timeout",
    "timeout",
    "max_tries",
    "result_ttl",
    "tags",
    "unique_for",
    "debounce",
    "throttle",
    "unique_key",
    "durable",
    "on_success",
    "on_error",
    "bogus",
]
JOBS = ["echo", "sleep", "flaky", "send_bulk_messages", "nobody"]
PLATFORM = [
    "register",
    "password-reset",
    "enrolments",
    "orders",
    "messages/bulk",
    "students/1/report",
    "exports/students",
    "broadcast",
    "process",
    "calculate",
    "certificates/1/revoke",
    "courses/1/complete",
    "contact",
    "students/99999999999999999999/report",
]
FIELDS = [
    "name",
    "email",
    "student_id",
    "course_id",
    "user_id",
    "lines",
    "numbers",
    "message",
    "text",
    "values",
    "number",
    "path",
    "format",
    "reason",
]
LOOK_UPS = [
    *(("GET", f"jobs/{{id}}{rest}") for rest in ("", "/progress", "/result", "/why", "?wait=0.01", "?wait=x")),
    *(("GET", f"workflows/{{id}}{rest}") for rest in ("", "?wait=0.01", "?after=5", "?after=x")),
    *(("POST", path) for path in ("jobs/{id}/cancel", "workflows/{id}/cancel", "workflows/{id}/retry")),
    *(("POST", f"schedules/{{name}}/{verb}") for verb in ("pause", "resume", "run")),
    *(("POST", f"queues/{name}/{verb}") for name in ("emails", "nobody", "a%20b") for verb in ("pause", "resume")),
    *(("GET", path) for path in ("schedules", "queues", "definitions", "schedules/{name}", "files/1?until=1")),
    ("DELETE", "schedules/{name}"),
    ("DELETE", "queues/emails/jobs"),
]
STRANGE_IDS = ["a%00b", "%ff", "x" * 5000, "a~b", "%20", "..."]


class Requests:
    """Makes random requests; what was made before is asked for again."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.ids = ["x"]

    def value(self, depth: int = 0) -> Any:
        pick = self.random.random()
        if depth < 3 and pick < 0.1:
            return [self.value(depth + 1) for _ in range(self.random.randint(0, 3))]
        if depth < 3 and pick < 0.2:
            return {self.random.choice(["a", "value", "job", ""]): self.value(depth + 1) for _ in range(2)}
        values: list[Any] = self.random.choice([NUMBERS, TEXTS, TIMES, WORDS, OTHERS])
        return self.random.choice(values)

    def some(self, names: list[str], most: int = 3) -> dict[str, Any]:
        return {self.random.choice(names): self.value() for _ in range(self.random.randint(0, most))}

    def job(self) -> Any:
        if self.random.random() < 0.05:
            return self.value()
        args = {"value": self.value()} if self.random.random() < 0.7 else self.value()
        return {"job": self.random.choice(JOBS), "args": args, "options": self.some(OPTIONS)}

    def flow(self, depth: int = 0) -> Any:
        form = self.random.choice(["job", "job", "chain", "group", "chord", "wrong"]) if depth < 4 else "job"
        if form == "job":
            return self.job()
        if form == "wrong":
            return {self.random.choice(["chain", "group", "chord"]): self.value()}
        parts = [self.flow(depth + 1) for _ in range(self.random.randint(0, 3))]
        return {form: {"group": parts, "callback": self.flow(depth + 1)} if form == "chord" else parts}

    def workflow(self) -> Any:
        flow = self.flow()
        with_options = isinstance(flow, dict) and self.random.random() < 0.4
        names = ["id", "on_failure", "on_success", "on_error", "keep", "bogus"]
        return {**flow, "options": self.some(names)} if with_options else flow

    def schedule(self) -> Any:
        when = {self.random.choice(["cron", "every"]): self.value()}
        rest = self.some(["tz", "missed", "overlap", "jitter", "declared", "name", "bogus"])
        return {"name": self.name(), "job": self.random.choice(JOBS), **when, "options": self.some(OPTIONS), **rest}

    def name(self) -> str:
        return self.random.choice("abc")

    def next(self) -> tuple[str, str, Any]:
        """Method, path and body."""
        posts: list[tuple[str, Callable[[], Any]]] = [
            ("jobs", self.job),
            ("jobs", self.job),
            ("jobs/bulk", lambda: {"jobs": [self.job() for _ in range(self.random.randint(0, 6))]}),
            ("workflows", self.workflow),
            ("schedules", self.schedule),
            (self.random.choice(PLATFORM), lambda: self.some(FIELDS)),
        ]
        kind = self.random.randrange(len(posts) + 2)
        if kind < len(posts):
            path, body = posts[kind]
            return "POST", path, body()
        if kind == len(posts):
            names = ["state", "job", "queue", "tag", "text", "since", "until", "cursor", "limit", "bogus"]
            return "GET", str(httpx.URL("jobs", params={k: str(v) for k, v in self.some(names).items()})), None
        method, path = self.random.choice(LOOK_UPS)
        known = self.random.choice(self.ids[-50:] if self.random.random() < 0.8 else STRANGE_IDS)
        return method, path.format(id=known, name=self.name()), None


@pytest.fixture
async def own_redis(servers: Any) -> AsyncIterator[str]:
    with private_redis(servers / "random") as url:
        yield url


async def test_no_random_request_fails_the_service_or_harms_others(
    settings_for: Callable[..., Settings], own_redis: str, tables: str
) -> None:
    requests, innocent = Requests(SEED), 0
    settings = settings_for(REDIS_URL=own_redis, DATABASE_URL=tables)
    async with serving(settings) as http, Client.open(own_redis) as client:
        for case in range(CASES):
            method, path, body = requests.next()
            answer = await http.request(method, f"/api/v1/{path}", json=body)
            assert answer.status_code < 500, (case, method, path, body, answer.text)
            if answer.status_code in {200, 201, 202} and answer.content.startswith(b'{"id":"'):
                requests.ids.append(answer.json()["id"])
            if case % 10 == 0:
                options = {"id": f"innocent-{innocent}", "queue": "exports"}
                good = {"job": "echo", "args": {"value": innocent}, "options": options}
                assert (await http.post("/api/v1/jobs", json=good)).status_code == 202
                innocent += 1
        kit = Kit(client, registry, "exports")
        await kit.drain()
        for number in range(innocent):
            job = await client.find(f"innocent-{number}")
            assert (job.state, job.result) == ("succeeded", number)
