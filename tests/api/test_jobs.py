import asyncio
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.support import Kit, eventually


def body(queue: str, job: str = "echo", args: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    default = {"value": "hello"} if job == "echo" else {}
    return {"job": job, "args": default if args is None else args, "options": {"queue": queue} | options}


async def test_post_answers_202_with_a_location_that_shows_the_job(http: httpx.AsyncClient, jobs: Kit) -> None:
    answer = await http.post("/api/v1/jobs", json=body(jobs.queue))
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/api/v1/jobs/{answer.json()['id']}"
    assert answer.json()["state"] == "queued"
    job = (await http.get(answer.headers["Location"])).json()
    assert {k: job[k] for k in ("job", "state", "queue", "args", "try", "result", "error")} == {
        "job": "echo",
        "state": "queued",
        "queue": jobs.queue,
        "args": {"value": "hello"},
        "try": 0,
        "result": None,
        "error": None,
    }
    assert datetime.fromisoformat(job["enqueued_at"]).tzinfo is not None


async def test_wait_holds_until_the_end(http: httpx.AsyncClient, jobs: Kit) -> None:
    where = (await http.post("/api/v1/jobs", json=body(jobs.queue, "sleep", {"seconds": 0.4}))).headers["Location"]
    started = time.monotonic()
    assert (await http.get(where, params={"wait": 0.1})).json()["state"] == "queued"
    assert time.monotonic() - started >= 0.1
    async with jobs.worker():
        job = (await http.get(where, params={"wait": 20})).json()
    assert (job["state"], job["result"]) == ("succeeded", 0.4)
    assert job["progress"] == {"current": 10, "total": 10, "percent": 100.0, "message": None, "meta": None}


async def test_result_is_202_until_the_end(http: httpx.AsyncClient, jobs: Kit) -> None:
    where = (await http.post("/api/v1/jobs", json=body(jobs.queue))).headers["Location"]
    pending = await http.get(f"{where}/result")
    assert (pending.status_code, pending.json()["state"]) == (202, "queued")
    assert "Retry-After" in pending.headers
    await jobs.drain()
    done = await http.get(f"{where}/result")
    assert (done.status_code, done.json()["result"], done.json()["error"]) == (200, "hello", None)


async def test_progress_of_a_running_job(http: httpx.AsyncClient, jobs: Kit) -> None:
    where = (await http.post("/api/v1/jobs", json=body(jobs.queue, "sleep", {"seconds": 2}))).headers["Location"]

    async def moved() -> dict[str, Any] | None:
        seen = (await http.get(f"{where}/progress")).json()
        return seen if seen["progress"] and seen["progress"]["current"] > 0 else None

    async with jobs.worker(grace=0):
        seen = await eventually(moved)
    assert seen["state"] == "running"
    assert 0 < seen["progress"]["percent"] < 100


async def test_unknown_job_says_which_may_be_meant(http: httpx.AsyncClient, queue: str) -> None:
    answer = await http.post("/api/v1/jobs", json=body(queue) | {"job": "ecko"})
    assert (answer.status_code, answer.json()["detail"]) == (
        404,
        "no job is registered as 'ecko'; did you mean 'echo'?",
    )


@pytest.mark.parametrize(
    ("change", "status", "pointer"),
    [
        ({"job": "no_such_job"}, 404, None),
        ({"args": {}}, 422, "/args/value"),
        ({"args": {"value": 1, "more": 2}}, 422, "/args/more"),
        ({"job": "sleep", "args": {"seconds": "long"}}, 422, "/args/seconds"),
        ({"job": "sleep", "args": {"seconds": -1}}, 422, "/args/seconds"),
        (
            {"job": "send_bulk_messages", "args": {"numbers": ["+15550100", "x"], "message": "m"}},
            422,
            "/args/numbers/1",
        ),
        ({"options": {"delay": -1}}, 422, "/options/delay"),
        ({"options": {"colour": "red"}}, 422, "/options/colour"),
        ({"job": 7}, 422, "/job"),
        ({"extra": 1}, 422, "/extra"),
        ({"args": []}, 422, "/args"),
    ],
)
async def test_bad_requests_are_problems_with_pointers(
    http: httpx.AsyncClient, queue: str, change: dict[str, Any], status: int, pointer: str | None
) -> None:
    answer = await http.post("/api/v1/jobs", json=body(queue) | change)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["detail"]
    assert [error["pointer"] for error in problem.get("errors", [])] == ([pointer] if pointer else [])


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"text"', b"\xff\xfe", b'{"job": "echo"', b"[" * 100_000])
async def test_body_that_is_no_json_object_is_400(http: httpx.AsyncClient, content: bytes) -> None:
    answer = await http.post("/api/v1/jobs", content=content)
    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("declared", [True, False])
async def test_two_mebibytes_are_413(http: httpx.AsyncClient, queue: str, declared: bool) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(32):
            yield b" " * 65536

    content = b" " * 2 * 1024 * 1024 if declared else chunks()
    answer = await http.post("/api/v1/jobs", content=content)
    assert answer.status_code == 413
    assert "at most 1,048,576 bytes" in answer.json()["detail"]
    assert (await http.post("/api/v1/jobs", json=body(queue))).status_code == 202


async def test_same_id_is_200_with_the_first_job(http: httpx.AsyncClient, queue: str) -> None:
    first = await http.post("/api/v1/jobs", json=body(queue, id=f"{queue}-1"))
    second = await http.post("/api/v1/jobs", json=body(queue, id=f"{queue}-1", args={"value": "other"}))
    assert (first.status_code, second.status_code) == (202, 200)
    assert second.headers["Location"] == first.headers["Location"]
    assert second.json()["args"] == {"value": "hello"}


async def test_idempotency_key_replays_and_refuses_another_payload(http: httpx.AsyncClient, queue: str) -> None:
    headers = {"Idempotency-Key": f"order 17 {queue}"}
    first = await http.post("/api/v1/jobs", json=body(queue), headers=headers)
    replay = await http.post("/api/v1/jobs", json=body(queue), headers=headers)
    other = await http.post("/api/v1/jobs", json=body(queue, args={"value": "other"}), headers=headers)
    both = await http.post("/api/v1/jobs", json=body(queue, id="mine"), headers=headers)
    assert [answer.status_code for answer in (first, replay, other, both)] == [202, 200, 422, 422]
    assert replay.json()["id"] == first.json()["id"]


async def test_options_reach_the_job(http: httpx.AsyncClient, queue: str) -> None:
    options: dict[str, Any] = {"priority": "high", "delay": 60, "tags": ["a", "b"], "max_tries": 7}
    answer = await http.post("/api/v1/jobs", json=body(queue, **options))
    assert answer.json()["state"] == "deferred"
    job = (await http.get(answer.headers["Location"])).json()
    assert {k: job[k] for k in ("priority", "state", "tags", "max_tries")} == {
        "priority": "high",
        "state": "deferred",
        "tags": ["a", "b"],
        "max_tries": 7,
    }
    assert job["scheduled_for"] > job["enqueued_at"]


@pytest.mark.parametrize("path", ["", "/progress", "/result"])
async def test_unknown_id_is_404(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(f"/api/v1/jobs/nobody{path}")
    assert answer.status_code == 404
    assert "nobody" in answer.json()["detail"]


@pytest.mark.parametrize("wait", ["-1", "61", "soon", "nan"])
async def test_wrong_wait_is_422(http: httpx.AsyncClient, wait: str) -> None:
    answer = await http.get("/api/v1/jobs/any", params={"wait": wait})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/wait")


async def test_unknown_paths_and_methods_are_problems(http: httpx.AsyncClient) -> None:
    assert (await http.get("/api/v1/nothing")).headers["Content-Type"] == "application/problem+json"
    wrong_method = await http.delete("/api/v1/jobs")
    assert wrong_method.status_code == 405
    assert wrong_method.headers["Allow"] == "POST"


async def test_definitions_list_every_job_with_its_schema(http: httpx.AsyncClient) -> None:
    found = {d["job"]: d for d in (await http.get("/api/v1/definitions")).json()["definitions"]}
    assert {"echo", "sleep", "flaky", "send_bulk_messages", "process_large_file"} <= set(found)
    schema = found["send_bulk_messages"]["arguments"]
    assert schema["required"] == ["numbers", "message"]
    assert schema["properties"]["message_type"]["default"] == "text"
    assert found["echo"]["description"] == "Return the value. Running it twice changes nothing."


async def test_request_ids_are_kept_or_made(http: httpx.AsyncClient) -> None:
    kept = await http.get("/health/live", headers={"X-Request-ID": "abc-1"})
    made = await http.get("/health/live", headers={"X-Request-ID": "not allowed\t!"})
    assert kept.headers["X-Request-ID"] == "abc-1"
    assert len(made.headers["X-Request-ID"]) == 32


async def test_a_hundred_waiters_share_one_subscription(http: httpx.AsyncClient, jobs: Kit) -> None:
    posted = await asyncio.gather(*(http.post("/api/v1/jobs", json=body(jobs.queue)) for _ in range(100)))
    waiting = [
        asyncio.create_task(http.get(answer.headers["Location"], params={"wait": 30}, timeout=40)) for answer in posted
    ]
    await asyncio.sleep(0.2)
    async with jobs.worker():
        ended = await asyncio.gather(*waiting)
    assert {answer.json()["state"] for answer in ended} == {"succeeded"}


async def test_cancel(http: httpx.AsyncClient, jobs: Kit) -> None:
    where = (await http.post("/api/v1/jobs", json=body(jobs.queue, delay=60))).headers["Location"]
    answer = await http.post(f"{where}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert (await http.get(where)).json()["state"] == "cancelled"
    again = await http.post(f"{where}/cancel")
    assert again.status_code == 409
    assert "cancelled" in again.json()["detail"]
    assert (await http.post("/api/v1/jobs/nobody/cancel")).status_code == 404


async def test_cancel_of_a_running_job_is_202(http: httpx.AsyncClient, jobs: Kit) -> None:
    where = (await http.post("/api/v1/jobs", json=body(jobs.queue, "sleep", {"seconds": 60}))).headers["Location"]

    async def running() -> bool:
        return bool((await http.get(where)).json()["state"] == "running")

    async with jobs.worker():
        await eventually(running)
        assert (await http.post(f"{where}/cancel")).status_code == 202
        job = (await http.get(where, params={"wait": 10})).json()
    assert (job["state"], job["tries"][0]["outcome"]) == ("cancelled", "cancelled")
