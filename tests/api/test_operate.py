import uuid
from typing import Any

import httpx
import pytest

from tests.support import Kit


@pytest.fixture
def name() -> str:
    return f"s-{uuid.uuid4().hex[:10]}"


def step(kit: Kit, value: Any = None, **more: Any) -> dict[str, Any]:
    args = {} if value is None else {"value": value}
    return {"job": "echo", "args": args, "options": {"queue": kit.queue}, **more}


async def test_queue_is_paused_resumed_and_purged(http: httpx.AsyncClient, jobs: Kit) -> None:
    for _ in range(3):
        await http.post("/api/v1/jobs", json=step(jobs, 1))
    assert (await http.post(f"/api/v1/queues/{jobs.queue}/pause")).json() == {"queue": jobs.queue, "paused": True}
    records = (await http.get("/api/v1/queues")).json()["queues"]
    (record,) = [each for each in records if each["queue"] == jobs.queue]
    assert (record["paused"], record["waiting"]) == (True, 3)
    assert (await http.post(f"/api/v1/queues/{jobs.queue}/resume")).json()["paused"] is False
    assert (await http.delete(f"/api/v1/queues/{jobs.queue}/jobs")).json() == {"queue": jobs.queue, "cancelled": 3}
    assert (await http.post("/api/v1/queues/a b/pause")).status_code == 422


async def test_workflow_from_start_to_result(http: httpx.AsyncClient, jobs: Kit) -> None:
    body = {
        "chain": [
            {"chord": {"group": [step(jobs, 1), {"chain": [step(jobs, 2), step(jobs)]}], "callback": step(jobs)}},
            {"group": [step(jobs), step(jobs, 7, immutable=True)]},
        ],
        "options": {"on_failure": "stop", "on_success": step(jobs)},
    }
    answer = await http.post("/api/v1/workflows", json=body)
    assert answer.status_code == 202
    where = answer.headers["Location"]
    async with jobs.worker():
        workflow = (await http.get(where, params={"wait": 20})).json()
    assert (workflow["state"], workflow["result"], workflow["error"]) == ("succeeded", [[1, 2], 7], None)
    assert {each["state"] for each in workflow["steps"]} == {"succeeded"}
    job = (await http.get(f"/api/v1/jobs/{workflow['steps'][0]['job_id']}")).json()
    assert job["workflow_id"] == workflow["id"]
    assert (await http.post(f"{where}/cancel")).status_code == 409
    assert (await http.post(f"{where}/retry")).status_code == 409


async def test_workflow_is_cancelled_and_retried(http: httpx.AsyncClient, jobs: Kit) -> None:
    where = (await http.post("/api/v1/workflows", json={"chain": [step(jobs, 3), step(jobs)]})).headers["Location"]
    assert (await http.post(f"{where}/cancel")).json()["state"] == "cancelled"
    assert (await http.post(f"{where}/retry")).status_code == 202
    async with jobs.worker():
        assert (await http.get(where, params={"wait": 20})).json()["result"] == 3


async def test_same_workflow_id_again_is_200(http: httpx.AsyncClient, jobs: Kit, name: str) -> None:
    body = {"chain": [step(jobs, 3)], "options": {"id": name}}
    assert [(await http.post("/api/v1/workflows", json=body)).status_code for _ in range(2)] == [202, 200]


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({}, 422, ""),
        ({"chain": []}, 422, ""),
        ({"chain": [5]}, 422, "/chain/0"),
        ({"chain": {"job": "echo"}}, 422, "/chain"),
        ({"group": [{"job": "echo", "args": 5}]}, 422, "/group/0/args"),
        ({"group": [{"job": "echo", "when": 5}]}, 422, "/group/0/when"),
        ({"group": [], "chain": []}, 422, "/group"),
        ({"chord": {"group": []}}, 422, "/chord"),
        ({"chain": [{"job": "echo", "args": {"value": 1}}], "options": {"keep": 1}}, 422, "/options/keep"),
        ({"chain": [{"job": "echo", "args": {"value": 1}}], "options": 5}, 422, "/options"),
        ({"chain": [{"job": "echo", "args": {}}]}, 422, "/args/value"),
        ({"chain": [{"job": "nobody"}]}, 404, None),
    ],
)
async def test_wrong_workflows_are_refused(
    http: httpx.AsyncClient, body: dict[str, Any], status: int, pointer: str | None
) -> None:
    answer = await http.post("/api/v1/workflows", json=body)
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json")
    if pointer is not None:
        assert answer.json()["errors"][0]["pointer"] == pointer


async def test_deeply_nested_workflow_is_refused(http: httpx.AsyncClient, jobs: Kit) -> None:
    flow: dict[str, Any] = step(jobs, 1)
    for _ in range(300):
        flow = {"chain": [flow]}
    assert (await http.post("/api/v1/workflows", json=flow)).status_code == 422


async def test_unknown_workflow_is_404(http: httpx.AsyncClient) -> None:
    assert (await http.get("/api/v1/workflows/nobody")).status_code == 404
    assert (await http.post("/api/v1/workflows/nobody/cancel")).status_code == 404
    assert (await http.post("/api/v1/workflows/nobody/retry")).status_code == 404


async def test_callbacks_of_a_posted_job(http: httpx.AsyncClient, jobs: Kit) -> None:
    body = step(jobs, 5)
    body["options"] |= {"on_success": step(jobs)}
    answer = await http.post("/api/v1/jobs", json=body)
    assert answer.status_code == 202
    async with jobs.worker():
        workflow = (await http.get(f"/api/v1/workflows/{answer.json()['id']}", params={"wait": 20})).json()
    assert [each["state"] for each in workflow["steps"]] == ["succeeded", "succeeded"]
    assert (await http.get(answer.headers["Location"])).json()["result"] == 5


async def test_schedule_from_its_making_to_its_end(http: httpx.AsyncClient, jobs: Kit, name: str) -> None:
    body = {
        "name": name,
        "job": "echo",
        "cron": "0 3 * * mon",
        "tz": "Europe/Berlin",
        "args": {"value": 1},
        "options": {"queue": jobs.queue},
        "missed": "skip",
    }
    made = await http.post("/api/v1/schedules", json=body)
    assert (made.status_code, made.headers["Location"]) == (201, f"/api/v1/schedules/{name}")
    assert made.json()["next_run"] is not None
    assert name in [each["name"] for each in (await http.get("/api/v1/schedules")).json()["schedules"]]
    own = f"/api/v1/schedules/{name}"
    assert (await http.post(f"{own}/pause")).json()["next_run"] is None
    ran = await http.post(f"{own}/run")
    assert ran.status_code == 202
    await jobs.drain()
    assert (await http.get(ran.headers["Location"])).json()["result"] == 1
    assert (await http.post(f"{own}/resume")).json()["paused"] is False
    assert (await http.post("/api/v1/schedules", json=body | {"cron": "0 4 * * *"})).status_code == 409
    assert (await http.delete(own)).status_code == 204
    assert (await http.get(own)).status_code == 404


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"cron": "nonsense"}, 422),
        ({"every": 5.0}, 422),
        ({"tz": "Nowhere"}, 422),
        ({"args": {}}, 422),
        ({"job": "nobody"}, 404),
        ({"color": "red"}, 422),
        ({"name": ""}, 422),
    ],
)
async def test_wrong_schedules_are_refused(
    http: httpx.AsyncClient, name: str, change: dict[str, Any], status: int
) -> None:
    body = {"name": name, "job": "echo", "cron": "0 3 * * *", "args": {"value": 1}} | change
    answer = await http.post("/api/v1/schedules", json=body)
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json")


async def test_bulk_accepts_and_refuses_each_on_its_own(http: httpx.AsyncClient, jobs: Kit, name: str) -> None:
    named = step(jobs, 1)
    named["options"] = named["options"] | {"id": name}
    many = [step(jobs, 1), named, named, {"job": "nobody"}, step(jobs), {"job": "echo", "args": {"value": 1}, "x": 1}]
    answer = await http.post("/api/v1/jobs/bulk", json={"jobs": many})
    assert answer.status_code == 202
    record = answer.json()
    assert (record["accepted"], record["refused"]) == (3, 3)
    assert [each.get("created", each.get("status")) for each in record["jobs"]] == [True, True, False, 404, 422, 422]
    assert record["jobs"][4]["errors"][0]["pointer"] == "/args/value"
    await jobs.drain()
    assert (await http.get(record["jobs"][0]["links"]["self"])).json()["state"] == "succeeded"


async def test_bulk_takes_ten_thousand_and_no_more(http: httpx.AsyncClient, jobs: Kit) -> None:
    answer = await http.post("/api/v1/jobs/bulk", json={"jobs": [step(jobs, n) for n in range(10_000)]})
    assert answer.json()["accepted"] == 10_000
    assert await jobs.client.purge_queue(jobs.queue) == 10_000
    assert (await http.post("/api/v1/jobs/bulk", json={"jobs": [1] * 10_001})).status_code == 422


async def test_why_a_job_waits(http: httpx.AsyncClient, jobs: Kit) -> None:
    job_id = (await http.post("/api/v1/jobs", json=step(jobs, 1))).json()["id"]
    (reason,) = (await http.get(f"/api/v1/jobs/{job_id}/why")).json()["reasons"]
    assert reason["kind"] == "no_worker_serves"
    assert (await http.get("/api/v1/jobs/nobody/why")).status_code == 404
