"""What is out of bounds is refused with a pointer to it, and touches nothing else."""

import asyncio
import hashlib
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from settings import Settings
from tests.api.conftest import serving
from tests.support import Kit, eventually
from worker import Client
from worker.core import keys
from worker.core.job import to_ms
from worker.database import make_engine
from worker.history.tables import jobs_table


def echo(queue: str, value: Any = 1, **options: Any) -> dict[str, Any]:
    return {"job": "echo", "args": {"value": value}, "options": {"queue": queue} | options}


@pytest.mark.parametrize(
    "option",
    [
        {"unique_for": 1e-9},
        {"debounce": 0},
        {"throttle": 1e300},
        {"expires_in": 0.0001},
        {"timeout": -1},
        {"result_ttl": 9223372036854775807},
        {"result_ttl": 1e-7},
        {"delay": 1e18},
        {"run_at": "9999-12-31T23:59:59.999999Z"},
        {"run_at": "1969-12-31T23:59:59Z"},
        {"id": "schedule~nightly~1"},
        {"id": "x" * 9000},
        {"tags": ["a\u0000b"]},
        {"unique_for": 60, "unique_key": "x" * 9000},
        {"on_success": {"job": "echo", "options": {"on_success": {"job": "echo"}}}},
    ],
)
async def test_an_option_out_of_bounds_is_422_and_harms_nobody(
    http: httpx.AsyncClient, jobs: Kit, option: dict[str, Any]
) -> None:
    posts = [http.post("/api/v1/jobs", json=echo(jobs.queue, n)) for n in range(10)]
    wrong = http.post("/api/v1/jobs", json=echo(jobs.queue, 0, **option))
    refused, *innocent = await asyncio.gather(wrong, *posts)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"].startswith(f"/options/{next(reversed(option))}")
    assert [answer.status_code for answer in innocent] == [202] * 10
    assert await jobs.client.purge_queue(jobs.queue) == 10


@pytest.mark.parametrize("path", ["/api/v1/workflows", "/api/v1/jobs/bulk"])
async def test_ids_of_the_system_are_refused_everywhere(http: httpx.AsyncClient, queue: str, path: str) -> None:
    if path.endswith("bulk"):
        answer = await http.post(path, json={"jobs": [echo(queue, id="order~5")]})
        assert answer.json()["jobs"][0]["errors"][0]["pointer"] == "/options/id"
    else:
        answer = await http.post(path, json={"chain": [echo(queue)], "options": {"id": "order~5"}})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/options/id")


@pytest.mark.parametrize("parameter", ["since", "until"])
@pytest.mark.parametrize(
    "moment",
    [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59.999999-23:59",
        "1969-12-31T23:59:59Z",
        "2200-01-01T00:00:00Z",
        "-99999999999999",
        "1e300",
        "NaN",
    ],
)
async def test_times_that_no_database_holds_are_422(http: httpx.AsyncClient, parameter: str, moment: str) -> None:
    answer = await http.get("/api/v1/jobs", params={parameter: moment})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, f"/{parameter}")


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00+00:00", "0001-01-01T00:00:00+23:59"])
async def test_a_cursor_of_a_time_that_no_database_holds_is_422(http: httpx.AsyncClient, at: str) -> None:
    cursor = urlsafe_b64encode(f"{at} x".encode()).decode()
    assert (await http.get("/api/v1/jobs", params={"cursor": cursor})).status_code == 422
    assert (await http.get("/api/v1/jobs", params={"cursor": "x" * 6000})).status_code == 422


async def test_a_deeply_nested_argument_is_no_500(http: httpx.AsyncClient, queue: str) -> None:
    for depth in (100, 250, 300, 500, 900, 1100):
        value = "[" * depth + "]" * depth
        content = f'{{"job":"echo","args":{{"value":{value}}},"options":{{"queue":"{queue}"}}}}'
        assert (await http.post("/api/v1/jobs", content=content)).status_code in {202, 400, 422}, depth
        bulk = await http.post("/api/v1/jobs/bulk", content=f'{{"jobs":[{content}]}}')
        assert bulk.status_code in {202, 400}, depth
        flow = await http.post("/api/v1/workflows", content=f'{{"chain":[{content}]}}')
        assert flow.status_code in {202, 400, 422}, depth


async def test_callbacks_within_callbacks_are_refused(http: httpx.AsyncClient, queue: str) -> None:
    inner = '{"job":"echo"}'
    for _ in range(200):
        inner = f'{{"job":"echo","args":{{"value":1}},"options":{{"on_success":{inner}}}}}'
    answer = await http.post("/api/v1/jobs", content=inner)
    assert answer.status_code == 422


async def test_idempotency_keys_are_bounded_and_make_ids_of_the_system(http: httpx.AsyncClient, queue: str) -> None:
    long = await http.post("/api/v1/jobs", json=echo(queue), headers={"Idempotency-Key": "x" * 256})
    empty = await http.post("/api/v1/jobs", json=echo(queue), headers={"Idempotency-Key": ""})
    taken = await http.post("/api/v1/jobs", json=echo(queue), headers={"Idempotency-Key": queue + "x" * 200})
    assert [answer.status_code for answer in (long, empty, taken)] == [422, 422, 202]
    assert taken.json()["id"].startswith("key~")
    assert (await http.get(taken.headers["Location"])).status_code == 200


async def test_a_key_of_the_release_before_still_finds_its_job(http: httpx.AsyncClient, queue: str) -> None:
    headers = {"Idempotency-Key": f"order {queue}"}
    former = "key-" + hashlib.sha256(headers["Idempotency-Key"].encode()).hexdigest()[:40]
    assert (await http.post("/api/v1/jobs", json=echo(queue, 5, id=former))).status_code == 202
    again = await http.post("/api/v1/jobs", json=echo(queue, 5), headers=headers)
    assert (again.status_code, again.json()["id"]) == (200, former)
    other = await http.post("/api/v1/jobs", json=echo(queue, 6), headers=headers)
    assert other.status_code == 202, "an id of that form may be anybody's"


async def test_schedules_are_bounded(http: httpx.AsyncClient, queue: str) -> None:
    record = {"name": queue, "job": "echo", "cron": "0 3 * * *", "args": {"value": 1}}
    for change in (
        {"cron": "0,1," * 200_000 + "0 * * * *"},
        {"args": {"value": "x" * 70_000}},
        {"name": "x" * 9000},
        {"job": "x" * 9000},
        {"options": {"unique_for": 1e-9}},
        {"jitter": 1e300},
        {"every": 1e-9, "cron": None},
    ):
        answer = await http.post("/api/v1/schedules", json=record | change)
        assert answer.status_code == 422, change
        assert len(answer.content) < 2000


# Queues


@pytest.fixture
async def closed(
    settings_for: Callable[..., Settings], redis_url: str, tables: str
) -> AsyncIterator[httpx.AsyncClient]:
    settings = settings_for(
        REDIS_URL=redis_url, DATABASE_URL=tables, routes=(("jobs.nothing.*", "routed"),), queues=("of-settings:2",)
    )
    async with serving(settings) as opened:
        yield opened


@pytest.mark.parametrize("queue", ["default", "emails", "routed", "of-settings"])
async def test_declared_queues_are_taken(closed: httpx.AsyncClient, queue: str) -> None:
    answer = await closed.post("/api/v1/jobs", json=echo(queue, delay=600))
    assert answer.status_code == 202
    assert (await closed.post(f"/api/v1/jobs/{answer.json()['id']}/cancel")).status_code == 200


async def test_a_queue_that_nobody_knows_is_422_and_makes_no_key(
    closed: httpx.AsyncClient, client: Client, queue: str
) -> None:
    step = echo(queue)
    called_back = {"job": "echo", "args": {"value": 1}, "options": {"on_error": step}}
    bodies: dict[str, list[dict[str, Any]]] = {
        "/api/v1/jobs": [step, called_back],
        "/api/v1/workflows": [
            {"chain": [step]},
            {"chord": {"group": [{"job": "echo", "args": {"value": 1}}], "callback": step}},
            {"chain": [called_back]},
            {"chain": [{"job": "echo", "args": {"value": 1}}], "options": {"on_success": step}},
        ],
        "/api/v1/schedules": [{"name": queue, "cron": "* * * * *"} | step],
    }
    for path, wrong in bodies.items():
        for body in wrong:
            answer = await closed.post(path, json=body)
            assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/options/queue"), body
            assert "EMBARQ_OPEN_QUEUES=1" in answer.json()["errors"][0]["detail"]
    bulk = await closed.post("/api/v1/jobs/bulk", json={"jobs": [step, echo("default", delay=600), step]})
    assert [each.get("status", "taken") for each in bulk.json()["jobs"]] == [422, "taken", 422]
    for verb in ("pause", "resume"):
        assert (await closed.post(f"/api/v1/queues/{queue}/{verb}")).status_code == 404
    assert (await closed.delete(f"/api/v1/queues/{queue}/jobs")).status_code == 404
    assert [key async for key in client.redis.scan_iter(match=f"*{queue}*", count=1000)] == []
    for name in (keys.QUEUES, keys.PAUSED):
        members = "ZRANGE" if await client.redis.type(name) == b"zset" else "SMEMBERS"
        known = await client.redis.execute_command(members, name, *([0, -1] if members == "ZRANGE" else []))
        assert not any(queue.encode() in each for each in known)


@pytest.mark.parametrize("prefix", ["", "key=sky:"])
async def test_a_queue_of_a_live_worker_is_taken(
    closed: httpx.AsyncClient, jobs: Kit, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    jobs = replace(jobs, queue=prefix + jobs.queue)
    monkeypatch.setattr("worker.http.known_queues.HEARD_FOR", 0.05)
    async with jobs.worker():

        async def taken() -> httpx.Response | None:
            answer = await closed.post("/api/v1/jobs", json=echo(jobs.queue, 7))
            return answer if answer.status_code == 202 else None

        posted = await eventually(taken)
        assert (await closed.get(posted.headers["Location"], params={"wait": 10})).json()["result"] == 7
        assert (await closed.post(f"/api/v1/queues/{jobs.queue}/pause")).status_code == 200
        assert (await closed.post(f"/api/v1/queues/{jobs.queue}/resume")).status_code == 200


async def test_a_queue_that_is_named_by_its_key_must_be_known_also_where_any_is_taken(
    http: httpx.AsyncClient, client: Client, jobs: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.http.known_queues.HEARD_FOR", 0.05)
    board = f"board:{jobs.queue}"
    await client.redis.zadd(board, {"player": 5})
    named = f"key={board}"
    answer = await http.post("/api/v1/jobs", json=echo(named))
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/options/queue")
    assert "OPEN" not in answer.json()["errors"][0]["detail"]
    for verb in ("pause", "resume"):
        assert (await http.post(f"/api/v1/queues/{named}/{verb}")).status_code == 404
    assert (await http.delete(f"/api/v1/queues/{named}/jobs")).status_code == 404
    for own in ("key=embarq:workers", "key=arq:abort", "key=arq:queue"):
        assert (await http.post("/api/v1/jobs", json=echo(own))).status_code == 422
        assert (await http.delete(f"/api/v1/queues/{own}/jobs")).status_code == 422
    assert await client.redis.zrange(board, 0, -1) == [b"player"]


@pytest.mark.parametrize("prefix", ["", "key=sky:"])
async def test_a_queue_of_plain_arq_clients_can_be_looked_after(
    closed: httpx.AsyncClient, client: Client, jobs: Kit, prefix: str
) -> None:
    jobs = replace(jobs, queue=prefix + jobs.queue)
    await client.arq.enqueue_job("echo", 1, _queue_name=jobs.queue_key)
    assert (await closed.delete(f"/api/v1/queues/{jobs.queue}/jobs")).json()["cancelled"] == 1


# Lists


def ended(number: int, **fields: Any) -> dict[str, Any]:
    at = datetime(2026, 1, 1, 0, 0, number % 60, tzinfo=UTC)
    row: dict[str, Any] = {
        "id": f"{fields['job']}-{number:04}",
        "enqueued_at": at,
        "queue": "default",
        "priority": "normal",
        "state": "succeeded",
        "tries": 1,
        "args": {},
        "result": None,
        "error": None,
        "tags": [],
        "finished_at": at,
        "words": "",
    }
    return row | fields


@pytest.fixture
async def database(tables: str) -> AsyncIterator[AsyncEngine]:
    engine = make_engine(tables)
    yield engine
    await engine.dispose()


async def test_large_values_are_cut_in_lists_and_whole_by_id(
    http: httpx.AsyncClient, database: AsyncEngine, queue: str
) -> None:
    large = [str(n) * 50 for n in range(20_000)]
    error = {"type": "E", "message": "m" * 1_000_000, "traceback": "t" * 1_000_000}
    rows = [
        ended(1, job=queue, args={"a": large}, result=large),
        ended(2, job=queue, result="x" * 1_000_000, error=error, state="failed"),
        ended(3, job=queue, args={"a": 1}, result="small"),
    ]
    async with database.begin() as connection:
        await connection.execute(insert(jobs_table), rows)
    answer = await http.get("/api/v1/jobs", params={"job": queue})
    assert len(answer.content) < 20_000
    small, failed, cut = answer.json()["jobs"]
    assert (small["args"], small["result"]) == ({"a": 1}, "small")
    assert cut["args"]["cut"] > 4096
    assert cut["result"]["cut"] > 4096
    assert failed["result"]["cut"] > 4096
    assert (failed["error"]["type"], len(failed["error"]["message"])) == ("E", 1000)
    whole = (await http.get(f"/api/v1/jobs/{queue}-0001")).json()
    assert (whole["args"], whole["result"]) == ({"a": large}, large)


async def test_a_page_of_jobs_ends_before_eight_megabytes(
    http: httpx.AsyncClient, database: AsyncEngine, queue: str
) -> None:
    rows = [ended(n, job=queue, tags=["x" * 100_000]) for n in range(150)]
    async with database.begin() as connection:
        await connection.execute(insert(jobs_table), rows)
    seen: list[str] = []
    params = {"job": queue, "limit": "200"}
    while True:
        answer = await http.get("/api/v1/jobs", params=params)
        assert len(answer.content) < 8 * 2**20
        seen += [job["id"] for job in answer.json()["jobs"]]
        if answer.json()["next"] is None:
            break
        params["cursor"] = answer.json()["next"]
    assert len(seen) == len(set(seen)) == 150


async def test_steps_of_a_large_workflow_come_in_parts(http: httpx.AsyncClient, jobs: Kit) -> None:
    workflow_id = jobs.queue + "-" + "x" * 150
    step = echo(jobs.queue)
    body = {"group": [step] * 25_000, "options": {"id": workflow_id}}
    assert (await http.post("/api/v1/workflows", json=body)).status_code == 202
    seen: list[int] = []
    after = -1
    while after is not None:
        answer = await http.get(f"/api/v1/workflows/{workflow_id}", params={"after": after})
        assert len(answer.content) < 8 * 2**20
        seen += [each["node"] for each in answer.json()["steps"]]
        after = answer.json()["next_step"]
    assert seen == list(range(25_001))
    assert (await http.get(f"/api/v1/workflows/{workflow_id}", params={"after": "x"})).status_code == 422


async def test_schedules_come_in_parts(http: httpx.AsyncClient, client: Client, queue: str) -> None:
    names = [f"{queue}-{n:03}" for n in range(140)]
    record = b'{"name":"%s","job":"echo","cron":"0 3 * * *","args":{"value":"' + b"x" * 64_000 + b'"}}'
    for name in names:
        await client.redis.execute_command("HSET", keys.SCHEDULES, name, record % name.encode())
    try:
        seen, after = [], queue
        while after is not None:
            answer = await http.get("/api/v1/schedules", params={"after": after})
            assert len(answer.content) < 8 * 2**20
            seen += [each["name"] for each in answer.json()["schedules"]]
            after = answer.json()["next"]
        assert [name for name in seen if name.startswith(queue)] == names
    finally:
        await client.redis.execute_command("HDEL", keys.SCHEDULES, *names)


async def test_there_are_ten_thousand_schedules_at_most(
    http: httpx.AsyncClient, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.http.endpoints.schedules.MOST_SCHEDULES", 0)
    answer = await http.post(
        "/api/v1/schedules", json={"name": queue, "job": "echo", "cron": "0 3 * * *", "args": {"value": 1}}
    )
    assert answer.status_code == 422
    assert "drop some first" in answer.json()["detail"]


async def test_a_time_out_of_range_in_redis_is_shown(http: httpx.AsyncClient, client: Client, queue: str) -> None:
    late = to_ms(datetime(9999, 12, 31, tzinfo=UTC)) * 1000
    payload = b'{"t":null,"f":"echo","a":[],"k":{"value":1},"et":%d}' % late
    await client.redis.set(keys.JOB + queue, payload)
    await client.redis.zadd(keys.queue_key(queue), {queue: late})
    answer = await http.get(f"/api/v1/jobs/{queue}")
    assert (answer.status_code, answer.json()["id"]) == (200, queue)
