"""What others wrote into Redis, by mistake or on purpose: only the job at fault is put aside, the worker goes on."""

import asyncio
import json
import math
import signal
from typing import Any

import pytest

from tests.support import Kit, eventually, logged
from worker import Client, JobHandle, State, Worker, WorkerConfig, WorkflowState, chain
from worker.broker.encoding import new_id
from worker.broker.events import latest
from worker.broker.exchange import ClaimRequest
from worker.broker.queue_store import NewJob
from worker.core import keys
from worker.core.errors import CallRefused, JobFailed, JobNotFound


@pytest.fixture
def innocent(kit: Kit) -> Any:
    @kit.registry.job()
    async def echo(value: int) -> int:
        return value

    return echo


async def put_raw(kit: Kit, job_id: str | bytes, payload: bytes, score: float = 1) -> None:
    """As any program that knows the address may."""
    name = job_id.encode() if isinstance(job_id, str) else job_id
    await kit.client.redis.set(keys.JOB.encode() + name, payload)
    await kit.client.redis.zadd(kit.queue_key, {name: score})


def payload(**more: Any) -> bytes:
    return json.dumps({"t": None, "f": "echo", "a": [1], "k": {}, "et": 1, **more}).encode()


async def drained_with_innocents(kit: Kit, innocent: Any) -> list[JobHandle[int]]:
    """Run what is there, with innocents before and behind it."""
    handles = [await kit.enqueue(innocent, {"value": value}) for value in range(5)]
    worker = await kit.drain()
    assert [await handle.result(15) for handle in handles] == list(range(5))
    assert not worker.runs
    return handles


@pytest.mark.parametrize(
    "options",
    [
        {"rt": 9223372036854775807},
        {"rt": -7},
        {"x": -1},
        {"to": 2**60},
        {"mt": 0},
        {"lm": ["x"]},
        {"lm": ["c:99999999999999999999:0:x"]},
        {"lm": ["r:1:0:x"]},
        {"lm": [f"c:1:0:{n}" for n in range(21)]},
        {"lm": "x"},
        {"wf": 5, "nd": "x"},
        {"tg": ["t" * 500]},
        {"z": 7},
        {"uq": 1},
    ],
    ids=str,
)
async def test_payload_out_of_bounds_fails_alone(kit: Kit, innocent: Any, options: dict[str, Any]) -> None:
    job_id = new_id()
    await put_raw(kit, job_id, payload(o=options))
    await drained_with_innocents(kit, innocent)
    job = await kit.client.find(job_id)
    assert job.error is not None
    assert (job.state, job.error.type) == (State.FAILED, "MalformedPayload")
    assert await kit.client.redis.zcard(kit.queue_key) == 0


@pytest.mark.parametrize("fields", [{"et": -5}, {"et": 2**62}, {"t": -1}, {"f": "e" * 9000}, {"du": 2**62}], ids=str)
async def test_times_and_names_out_of_bounds_fail_alone(kit: Kit, innocent: Any, fields: dict[str, Any]) -> None:
    job_id = new_id()
    await put_raw(kit, job_id, payload(**fields))
    await drained_with_innocents(kit, innocent)
    job = await kit.client.find(job_id)
    assert (job.state, job.name) == (State.FAILED, "?")


@pytest.mark.parametrize(
    "job_id", [b"\xff\xfe", b"i" * 9000, b"half \xe2\x82", b"nul\0nul", b""], ids=lambda b: repr(b[:12])
)
async def test_id_that_can_be_none_fails_alone(kit: Kit, innocent: Any, job_id: bytes) -> None:
    await put_raw(kit, job_id, payload())
    await drained_with_innocents(kit, innocent)
    result = json.loads(await kit.client.redis.get(keys.RESULT.encode() + job_id))
    assert (result["s"], result["state"], result["r"]["type"]) == (False, "failed", "InvalidId")
    assert len(result["id"]) <= keys.ID_BYTES
    assert await kit.client.redis.zcard(kit.queue_key) == 0


async def test_id_in_any_script_is_a_good_id(kit: Kit, innocent: Any) -> None:
    job_id = "größe/日本 🙂"
    await put_raw(kit, job_id, payload())
    await drained_with_innocents(kit, innocent)
    assert (await kit.client.find(job_id)).result == 1


async def test_queue_of_another_type_is_set_aside(kit: Kit, innocent: Any) -> None:
    await kit.client.redis.execute_command("RPUSH", kit.queue_key, "a list")
    handle = await kit.enqueue(innocent, {"value": 3})
    await kit.drain()
    assert await handle.result(15) == 3
    assert await kit.client.redis.execute_command("LRANGE", keys.DAMAGED + kit.queue_key, 0, -1) == [b"a list"]
    assert await kit.client.redis.zscore(keys.DAMAGED_KEYS, kit.queue_key)


async def test_queue_that_turns_bad_while_a_worker_serves_it(kit: Kit, innocent: Any) -> None:
    async with kit.worker():
        first = await kit.enqueue(innocent, {"value": 1})
        assert await first.result(20) == 1
        await kit.client.redis.set(kit.queue_key, "a string")
        second = await kit.enqueue(innocent, {"value": 2})
        assert await second.result(20) == 2


@pytest.mark.parametrize("kind", [keys.JOB, keys.TRIES, keys.RUN, keys.HISTORY, keys.PROGRESS])
async def test_keys_of_a_job_of_another_type(kit: Kit, innocent: Any, kind: str) -> None:
    job_id = new_id()
    await put_raw(kit, job_id, payload())
    await kit.client.redis.delete(kind + job_id)
    await kit.client.redis.execute_command("HSET", kind + job_id, "another", "type")
    await drained_with_innocents(kit, innocent)
    assert (await kit.client.find(job_id)).state.ended


@pytest.mark.parametrize("tries", ["many", "1e300", "inf", "nan", "-5", "9" * 400, "0x10"])
async def test_counter_that_is_no_number(kit: Kit, innocent: Any, tries: str) -> None:
    job_id = new_id()
    await put_raw(kit, job_id, payload())
    await kit.client.redis.set(keys.TRIES + job_id, tries)
    await drained_with_innocents(kit, innocent)
    assert (await kit.client.find(job_id)).result == 1


@pytest.mark.parametrize("score", [float("inf"), float("-inf"), 9e15, 1e300, -1e300])
async def test_score_that_is_no_time(kit: Kit, innocent: Any, score: float) -> None:
    job_id = new_id()
    await put_raw(kit, job_id, payload(), score)
    handles = [await kit.enqueue(innocent, {"value": value}) for value in range(3)]
    async with kit.worker():
        assert [await handle.result(20) for handle in handles] == [0, 1, 2]
    assert (await kit.client.find(job_id)).id == job_id
    await kit.client.redis.zrem(kit.queue_key, job_id)


async def test_parked_places_that_others_filled(kit: Kit, innocent: Any) -> None:
    await kit.client.redis.zadd(keys.LIMITS, {"garbage": 0, "c:1:0:odd": 0, "r:0:5:x": 0})
    await kit.client.redis.zadd(keys.PARKED + "c:1:0:odd", {"no tab": 1, f"gone\t{kit.queue_key}": 2, "\t": 3})
    await drained_with_innocents(kit, innocent)
    assert await kit.client.redis.zscore(keys.LIMITS, "garbage") is None


async def test_entry_of_a_job_that_has_ended_is_removed(kit: Kit, innocent: Any) -> None:
    (handle, *_) = await drained_with_innocents(kit, innocent)
    await kit.client.redis.zadd(kit.queue_key, {handle.id: 1})
    await drained_with_innocents(kit, innocent)
    assert await handle.result(15) == 0


async def test_job_that_lost_its_place_is_requeued_by_a_look(kit: Kit, innocent: Any) -> None:
    handle = await kit.enqueue(innocent, {"value": 4})
    await kit.client.redis.zrem(kit.queue_key, handle.id)
    assert (await handle.job()).state is State.QUEUED
    await kit.drain()
    assert await handle.result(15) == 4


async def test_job_that_lost_its_place_is_requeued_by_a_repeated_call(kit: Kit, innocent: Any) -> None:
    handle = await kit.enqueue(innocent, {"value": 4}, id=f"twice-{kit.queue}")
    await kit.client.redis.zrem(kit.queue_key, handle.id)
    again = await kit.enqueue(innocent, {"value": 4}, id=handle.id)
    assert not again.created
    await kit.drain()
    assert await handle.result(15) == 4


def call(kit: Kit, **fields: Any) -> NewJob:
    request_id = new_id()
    body = f'{{"t":null,"f":"echo","a":[1],"k":{{}},"o":{{"z":"{kit.queue_key}"}},"n":"{request_id}"}}'.encode()
    return NewJob(**{"id": new_id(), "queue_key": kit.queue_key, "request_id": request_id, "payload": body} | fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"unique": "u:0:key"},
        {"unique": "u:99999999999999:key"},
        {"unique": "x:5:key"},
        {"unique": "d:5:" + "k" * 600},
        {"due_ms": 2**62},
        {"due_ms": -1},
        {"delay_ms": -1},
        {"id": ""},
        {"id": "i" * 256},
        {"queue_key": ""},
        {"request_id": '"'},
        {"payload": b"[]"},
    ],
    ids=str,
)
async def test_wrong_call_is_refused_before_anything_is_written(kit: Kit, fields: dict[str, Any]) -> None:
    jobs = [call(kit), call(kit, **fields), call(kit)]
    with pytest.raises(CallRefused, match="call 2"):
        await kit.client.queue_store.enqueue(jobs)
    assert await kit.client.redis.zcard(kit.queue_key) == 0
    for job in jobs[::2]:
        with pytest.raises(JobNotFound):
            await kit.client.find(job.id)


async def test_foreign_program_cannot_take_the_id_of_a_schedules_run(kit: Kit, innocent: Any) -> None:
    taken = f"schedule~{kit.queue}~5"
    await put_raw(kit, taken, payload(a=[666]))
    await drained_with_innocents(kit, innocent)
    refused = await kit.client.find(taken)
    assert refused.error is not None
    assert refused.error.type == "ReservedId"
    ours = await kit.enqueue(innocent, {"value": 7}, id=taken)
    assert ours.created
    await kit.drain()
    assert await ours.result(15) == 7


async def test_foreign_job_that_waits_gives_way_to_ours(kit: Kit, innocent: Any) -> None:
    taken = f"schedule~{kit.queue}~6"
    await put_raw(kit, taken, payload(a=[666]), score=1e14)
    ours = await kit.enqueue(innocent, {"value": 7}, id=taken)
    assert ours.created
    await kit.drain()
    assert await ours.result(15) == 7


async def test_plain_calls_may_not_make_ids_of_ours(kit: Kit) -> None:
    with pytest.raises(CallRefused, match="must not hold '~'"):
        await kit.client.arq.enqueue_job("echo", _job_id="schedule~x~5", _queue_name=kit.queue_key)


async def claim(kit: Kit, worker: str, number: int, lease_ms: int = 30) -> list[str]:
    request = ClaimRequest(worker, number, [kit.queue_key], 10, lease_ms)
    _, found = await kit.client.queue_store.exchange([], request)
    assert found is not None
    return [job.id for job in found.jobs]


async def test_claims_that_nobody_heard_of_use_no_try_and_lose_no_lease(kit: Kit, innocent: Any) -> None:
    handles = [await kit.enqueue(innocent, {"value": value}) for value in range(50)]
    for number in range(1, 7):
        assert await claim(kit, "deaf", number)
        await asyncio.sleep(0.05)
    await kit.drain(leases_lost_limit=3)
    jobs = [await handle.job() for handle in handles]
    assert {(job.state, job.tries, len(job.attempts)) for job in jobs} == {(State.SUCCEEDED, 1, 1)}


async def test_claims_that_were_heard_of_count(kit: Kit, innocent: Any) -> None:
    handle = await kit.enqueue(innocent, {"value": 1})
    await claim(kit, "dead", 4)
    await kit.client.queue_store.heard("dead", 4)
    await asyncio.sleep(0.05)
    await kit.drain()
    assert [each.outcome for each in (await handle.job()).attempts] == ["lost", "succeeded"]


async def test_what_an_unheard_claim_brought_is_given_back_at_once(kit: Kit, innocent: Any) -> None:
    handle = await kit.enqueue(innocent, {"value": 1})
    assert await claim(kit, "alive", 9, lease_ms=60_000) == [handle.id]
    await kit.client.queue_store.exchange([], None, ("alive", (8, 9)))
    assert (await handle.job()).state is State.QUEUED
    await kit.drain()
    job = await handle.job()
    assert (job.state, job.tries) == (State.SUCCEEDED, 1)


async def test_worker_that_lost_its_lease_without_knowing_is_told(kit: Kit) -> None:
    """As when the clock of Redis was set forward."""
    under_way = started = 0

    @kit.registry.job()
    async def long() -> None:
        nonlocal under_way, started
        under_way += 1
        started += 1
        try:
            await asyncio.sleep(100 if started == 1 else 0.2)
        finally:
            under_way -= 1

    async def runs() -> bool:
        return under_way == 1

    async def stopped() -> bool:
        return under_way == 0

    handle = await kit.enqueue(long)
    async with kit.worker(lease=120.0, poll=30.0, concurrency=1):  # it renews every 40 s, and has no slot to claim for
        await eventually(runs)
        await kit.client.redis.delete(keys.LEASE + handle.id)
        await kit.client.redis.zadd(kit.queue_key, {handle.id: 1})
        assert await claim(kit, "other", 1, lease_ms=60_000) == [handle.id]
        await eventually(stopped, timeout=20)


async def test_debounced_calls_leave_no_key_behind(kit: Kit, innocent: Any) -> None:
    handles = [
        await kit.enqueue(innocent, {"value": value}, debounce=0.01, unique_key=f"{kit.queue}-{value}")
        for value in range(20)
    ]
    await asyncio.sleep(0.02)
    async with kit.worker():
        assert [await handle.result(20) for handle in handles] == list(range(20))
    assert [key async for key in kit.client.redis.scan_iter(f"{keys.UNIQUE}*{kit.queue}*")] == []


async def test_throttled_calls_leave_no_key_behind(kit: Kit, innocent: Any) -> None:
    handle = await kit.enqueue(innocent, {"value": 1}, throttle=5, unique_key=kit.queue)
    await kit.drain()
    assert await handle.result(15) == 1
    (name,) = [key async for key in kit.client.redis.scan_iter(f"{keys.UNIQUE}*{kit.queue}*")]
    assert 0 < await kit.client.redis.pttl(name) <= 5000


async def test_refusals_of_redis_do_not_end_the_worker(kit: Kit, innocent: Any, redis_url: str) -> None:
    """As when somebody takes rights from the worker's user, and gives them back."""
    user = f"user-{kit.queue}"
    await kit.client.redis.execute_command("ACL", "SETUSER", user, "on", ">secret", "~*", "&*", "+@all")
    async with Client.open(redis_url.replace("://", f"://{user}:secret@")) as limited:
        worker = Worker(limited, kit.registry, kit.config())
        running = asyncio.create_task(worker.async_run())
        assert await (await kit.enqueue(innocent, {"value": 1})).result(20) == 1
        with logged("embarq.worker") as lines:
            await kit.client.redis.execute_command("ACL", "SETUSER", user, "-evalsha", "-eval")
            handles = [await kit.enqueue(innocent, {"value": value}) for value in range(3)]
            await eventually(lambda: told(lines, "redis refuses what the worker asks"))
            await kit.client.redis.execute_command("ACL", "SETUSER", user, "+evalsha", "+eval")
            assert [await handle.result(20) for handle in handles] == [0, 1, 2]
        worker.handle_sig(signal.SIGTERM)
        await running
    await kit.client.redis.execute_command("ACL", "DELUSER", user)


async def told(lines: list[dict[str, Any]], event: str) -> bool:
    return any(line["event"] == event for line in lines)


async def test_stream_of_events_keeps_its_bytes(kit: Kit, innocent: Any) -> None:
    """Entries are of bounded size, and so is their number."""
    jobs = [call(kit, id=f"{'x' * 240}{number:03}") for number in range(500)]
    await kit.client.queue_store.enqueue(jobs)
    entries = await kit.client.redis.xrevrange(keys.EVENTS, count=50)
    assert max(len(fields[b"e"]) for _, fields in entries) <= keys.EVENT_BYTES
    found = {event.job_id for event in await latest(kit.client.redis, 50)}
    assert {job.id for job in jobs} <= found


async def test_heartbeat_trims_events_to_what_is_asked(kit: Kit) -> None:
    for _ in range(20):
        await kit.client.queue_store.enqueue([call(kit) for _ in range(200)])
    used = await kit.client.redis.execute_command("MEMORY", "USAGE", keys.EVENTS, "SAMPLES", 0)
    await kit.client.queue_store.heartbeat("w", b"{}", 1000, (), used // 4)
    assert await kit.client.redis.execute_command("MEMORY", "USAGE", keys.EVENTS, "SAMPLES", 0) < used // 2


async def test_history_that_nobody_writes_falls_off_at_its_old_end(kit: Kit, own_redis: Client) -> None:
    most = 4 * keys.RECORD_BYTES
    await own_redis.redis.set(keys.RECORDING, most)
    own = Kit(own_redis, kit.registry, kit.queue)

    @kit.registry.job()
    async def large() -> str:
        return "r" * 300_000

    kit.registry.bind(own_redis)
    handles = [await own.enqueue(large) for _ in range(30)]
    await own.drain()
    left = [record for _, fields in await own_redis.redis.xrange(keys.RECORDS) for record in json.loads(fields[b"e"])]
    dropped = int(await own_redis.redis.get(keys.RECORDS_DROPPED))
    assert len(left) + dropped == 30
    assert 5 < len(left) < 15
    kept = sum([len(fields[b"e"]) for _, fields in await own_redis.redis.xrange(keys.RECORDS)])
    assert kept == int(await own_redis.redis.get(keys.RECORDS_BYTES)) <= most
    assert left[-1]["r"]["id"] in {handle.id for handle in handles}


async def test_empty_queues_that_nobody_serves_are_forgotten_after_a_day(own_redis: Client) -> None:
    names = [f"arq:queue:q{number}" for number in range(40)]
    await own_redis.redis.execute_command("SADD", keys.QUEUES, *names)
    await own_redis.redis.zadd(names[0], {"waits": 1})
    await own_redis.queue_store.heartbeat("w", b"{}", 1000, ["arq:queue:served"])
    seen = await own_redis.redis.zrange(keys.QUEUES_SEEN, 0, -1)
    assert len(seen) > 1
    await own_redis.redis.zadd(keys.QUEUES_SEEN, dict.fromkeys(names, 1))
    known = await own_redis.queue_store.heartbeat("w", b"{}", 1000, ["arq:queue:served"])
    assert set(known) == {names[0], "arq:queue:served"}


async def test_worker_of_all_queues_asks_only_those_that_hold_something(kit: Kit, own_redis: Client) -> None:
    @kit.registry.job()
    async def echo(value: int) -> int:
        return value

    own = Kit(own_redis, kit.registry, "arq")
    kit.registry.bind(own_redis)
    await own_redis.redis.execute_command("SADD", keys.QUEUES, *[f"arq:queue:q{number}" for number in range(2000)])
    worker = Worker(own_redis, kit.registry, WorkerConfig(queues=("*",)))
    running = asyncio.create_task(worker.async_run())

    async def wide() -> bool:
        return worker.claiming.service.by_use

    await eventually(wide)
    for name in ("new-1", "new-2", "q77"):
        assert await (await own.enqueue(echo, {"value": 1}, queue=name)).result(20) == 1

    async def told_so() -> bool:
        return [record.queues for record in await own_redis.workers()] == [["default", "*"]]

    await eventually(told_so)
    await own_redis.redis.execute_command("CONFIG", "RESETSTAT")
    await asyncio.sleep(1.2)
    stats = await own_redis.redis.info("commandstats")
    asked = sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("zrangebyscore", "zcard"))
    assert asked < 3 * keys.QUEUES_ASKED + 600, "a look costs by what waits, a heartbeat by a slice of the names"
    worker.handle_sig(signal.SIGTERM)
    await running


async def test_large_jobs_and_results_go_in_parts(kit: Kit) -> None:
    """Neither Redis nor the worker's loop has to take all of them at once."""

    @kit.registry.job()
    async def double(text: str) -> str:
        return text + text

    handles = [await kit.enqueue(double, {"text": "x" * 1_000_000}) for _ in range(40)]
    request = ClaimRequest("large", 1, [kit.queue_key], 100, 1)
    _, found = await kit.client.queue_store.exchange([], request)
    assert found is not None
    assert found.more
    assert 9 <= len(found.jobs) <= keys.CLAIM_BYTES / 1_000_000 + 32
    await kit.drain()
    assert {len(await handle.result(15)) for handle in handles} == {2_000_000}


async def test_durable_call_that_comes_again_after_its_end_is_known(kit: Kit, innocent: Any) -> None:
    """By its request id, when nothing else of the job is left."""
    request_id = new_id()
    body = f'{{"t":null,"f":"echo","a":[1],"k":{{}},"o":{{"z":"{kit.queue_key}","rt":0,"db":true}},"n":"{request_id}"}}'
    job = call(kit, request_id=request_id, payload=body.encode())
    await kit.client.queue_store.enqueue([job])
    await kit.drain()
    await kit.client.redis.delete(keys.TRACE + job.id)
    assert await kit.client.queue_store.enqueue([job]) == [(job.id, True)]
    assert await kit.client.redis.zcard(kit.queue_key) == 0
    assert await kit.client.queue_store.whereabouts([job.id]) == ({job.id}, set())


async def test_a_small_redis_is_not_filled_with_what_happened(kit: Kit, own_redis: Client) -> None:
    await own_redis.redis.execute_command("CONFIG", "SET", "maxmemory", 64 * 1024 * 1024)
    server = await own_redis.inspector.server()
    assert server.share(64 * 1024 * 1024, 8) == 8 * 1024 * 1024
    assert server.share(1000, 8) == 1000
    await own_redis.redis.execute_command("RPUSH", "arq:queue:odd", "a list")
    await own_redis.queue_store.enqueue([call(kit, queue_key="arq:queue:odd")])
    (warning,) = (await own_redis.inspector.server()).warnings
    assert "arq:queue:odd" in warning


@pytest.mark.parametrize("name", ["well", "badly"])
async def test_job_whose_end_cannot_be_stored_has_failed(kit: Kit, name: str) -> None:
    runs: list[str] = []

    @kit.registry.job()
    async def well() -> None:
        runs.append("well")

    @kit.registry.job()
    async def badly() -> None:
        runs.append("badly")
        raise ValueError("no")

    flow = await kit.client.start(chain(kit.registry.get(name).options(queue=kit.queue).s()), {})
    alone = await kit.enqueue(kit.registry.get(name))
    await kit.drain(result_ttl=math.inf)  # settings do not let this pass
    for job_id in (alone.id, f"{flow.id}~0"):
        job = await kit.ended(job_id)
        assert job.state is State.FAILED
        assert job.error is not None
        assert job.error.type == "OverflowError"
        assert "its end could not be stored" in job.error.message
    assert (await flow.workflow()).state is WorkflowState.FAILED
    assert runs == [name, name]


@pytest.mark.parametrize("state", ["bogus", "running", "x" * 10_000])
async def test_result_of_a_state_that_nobody_knows(kit: Kit, innocent: Any, state: str) -> None:
    handle = await kit.enqueue(innocent, {"value": 1})
    await kit.drain()
    stored = json.loads(await kit.client.redis.get(keys.RESULT + handle.id))
    await kit.client.redis.set(keys.RESULT + handle.id, json.dumps(stored | {"state": state}))
    job = await kit.client.find(handle.id)
    assert job.state is State.FAILED
    assert job.error is not None
    assert (job.error.type, len(job.error.message) < 300) == ("MalformedPayload", True)
    assert state[:5] in job.error.message
    with pytest.raises(JobFailed, match="MalformedPayload"):
        await handle.result(5)
