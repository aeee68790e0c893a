import asyncio
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support import Kit, eventually, logged
from worker import Context, Registry, every
from worker.cli import doctor
from worker.core import keys
from worker.core.cron import Every
from worker.core.errors import (
    DefinitionError,
    InvalidArguments,
    InvalidOptions,
    InvalidSchedule,
    ScheduleExists,
    ScheduleNotFound,
    UnknownJob,
)
from worker.core.job import to_ms
from worker.core.options import check_options
from worker.core.schedule import Missed, firings, jittered, make_record
from worker.runtime.scheduler import Scheduler
from worker.settings import Settings

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
MONTH = 30 * 86400.0  # no other time is due when these tests run


def seconds(firing_times: list[datetime | None]) -> list[float | None]:
    return [None if each is None else (each - NOON).total_seconds() for each in firing_times]


@pytest.mark.parametrize("rule", list(Missed))
def test_times_of_the_last_minute_all_run(rule: Missed) -> None:
    found = firings(Every(10), rule, NOON, NOON + timedelta(seconds=35))
    assert seconds([each.run for each in found]) == [0, 10, 20, 30]
    assert found[-1].following == NOON + timedelta(seconds=40)


@pytest.mark.parametrize(
    ("rule", "runs"),
    [
        (Missed.SKIP, [None, 240, 270, 300]),
        (Missed.ONCE, [0, 240, 270, 300]),
        (Missed.ALL, [30 * n for n in range(11)]),
    ],
)
def test_missed_times_follow_their_rule(rule: Missed, runs: list[float | None]) -> None:
    found = firings(Every(30), rule, NOON, NOON + timedelta(seconds=300))
    assert seconds([each.run for each in found]) == runs
    assert [each.due for each in found[1:]] == [each.following for each in found[:-1]]
    assert found[-1].following == NOON + timedelta(seconds=330)


def test_a_long_stop_costs_no_long_list() -> None:
    year_later = NOON + timedelta(days=365)
    assert len(firings(Every(1), Missed.ONCE, NOON, year_later)) == 62
    assert len(firings(Every(1), Missed.ALL, NOON, year_later)) == 501


def test_jitter_is_the_same_for_all_and_bounded() -> None:
    moved = [jittered("name", NOON + timedelta(minutes=n), 30) - NOON - timedelta(minutes=n) for n in range(100)]
    assert all(timedelta() <= each < timedelta(seconds=30) for each in moved)
    assert len(set(moved)) > 90
    assert jittered("name", NOON, 30) == jittered("name", NOON, 30)


@pytest.mark.parametrize(
    "fields",
    [
        {"cron": "* * * * *", "every": 5.0},
        {},
        {"cron": "x"},
        {"every": 0.0},
        {"every": 5.0, "missed": "never"},
        {"every": 5.0, "jitter": -1.0},
        {"every": 5.0, "name": "a b"},
        {"every": "5"},
    ],
)
def test_wrong_records_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidSchedule):
        make_record({"name": "x", "job": "y", **fields})


def test_declarations_are_checked() -> None:
    registry = Registry()

    @registry.schedule("0 3 * * *", tz="Europe/Berlin")
    @registry.schedule(every(60), name="often", args={"n": "x"})
    @registry.job()
    async def work(n: int = 0) -> None: ...

    assert {record.name for record in registry.schedules} == {"work", "often"}
    with pytest.raises(DefinitionError, match=r"schedule 'often' of job 'work' .*: /args/n: .*integer"):
        registry.check()
    with pytest.raises(DefinitionError, match="named 'work'"):
        registry.schedule(every(5))(work)
    with pytest.raises(InvalidSchedule):
        registry.schedule("every day", name="other")


@pytest.fixture
def name() -> str:
    return f"s-{uuid.uuid4().hex[:10]}"


def scheduler(kit: Kit) -> Scheduler:
    return Scheduler(kit.client.schedules, kit.registry)


def noting(kit: Kit, ran: list[Any], name: str) -> Any:
    @kit.registry.job(queue=kit.queue, name=name)
    async def note(value: int = 0) -> None:
        ran.append(value)
        await asyncio.sleep(0.01)

    return note


async def test_declared_schedule_runs_at_each_of_its_times(kit: Kit, name: str) -> None:
    ran: list[str] = []

    @kit.registry.job(queue=kit.queue, name=name)
    async def note(ctx: Context, value: int) -> None:
        assert value == 7
        ran.append(ctx.job_id)

    async def several() -> bool:
        return len(ran) >= 5

    kit.registry.schedule(every(0.5), args={"value": 7})(note)
    async with kit.worker(), kit.worker():
        await eventually(several, timeout=30)
    times = [int(job_id.removeprefix(f"schedule~{name}~")) for job_id in sorted(ran)]
    assert times == list(range(times[0], times[0] + 500 * len(times), 500)), "each of its times, and each once"


async def test_workers_that_start_again_keep_the_next_time(kit: Kit, name: str) -> None:
    kit.registry.schedule("0 3 * * *")(noting(kit, [], name))
    await scheduler(kit).declare()
    first = await scheduler(kit).find(name)
    await kit.client.redis.zadd(keys.SCHEDULES_DUE, {name: to_ms(NOON)})
    await scheduler(kit).declare()
    assert first.next_run is not None
    assert (await scheduler(kit).find(name)).next_run == NOON


async def test_changed_declaration_counts_anew(kit: Kit, name: str) -> None:
    note = noting(kit, [], name)
    kit.registry.schedule("0 3 * * *")(note)
    await scheduler(kit).declare()
    changed = Registry()
    changed.job(queue=kit.queue, name=name)(note.function)
    changed.schedule("0 4 * * *")(changed.get(name))
    await Scheduler(kit.client.schedules, changed).declare()
    found = await scheduler(kit).find(name)
    assert found.next_run is not None
    assert found.next_run.hour == 4
    # A worker of the release before must not fire what it knows differently.
    await kit.client.redis.zadd(keys.SCHEDULES_DUE, {name: to_ms(datetime.now(UTC))})
    await scheduler(kit).run_once()
    assert await kit.client.redis.zcard(kit.queue_key) == 0


@pytest.mark.arq_defect(9)
async def test_many_schedulers_fire_each_time_once(kit: Kit, name: str) -> None:
    kit.registry.schedule(every(3600))(noting(kit, [], name))
    many = [scheduler(kit) for _ in range(8)]
    await many[0].declare()
    await kit.client.redis.zadd(keys.SCHEDULES_DUE, {name: to_ms(datetime.now(UTC)) - 5})
    await asyncio.gather(*(each.run_once() for each in many))
    assert await kit.client.redis.zcard(kit.queue_key) == 1
    found = await many[0].find(name)
    assert found.last_job is not None
    assert found.last_job.startswith(f"schedule~{name}~")


async def make_due(kit: Kit, name: str, ago: timedelta = timedelta(milliseconds=5)) -> None:
    await kit.client.redis.zadd(keys.SCHEDULES_DUE, {name: to_ms(datetime.now(UTC) - ago)})


async def test_overlapping_run_is_skipped_while_the_last_one_lives(kit: Kit, name: str) -> None:
    kit.registry.schedule(every(3600), overlap="skip")(noting(kit, [], name))
    fire = scheduler(kit)
    await fire.declare()
    for _ in range(3):
        await make_due(kit, name)
        await fire.run_once()
    assert await kit.client.redis.zcard(kit.queue_key) == 1
    await kit.drain()
    await make_due(kit, name)
    await fire.run_once()
    assert await kit.client.redis.zcard(kit.queue_key) == 1


async def test_paused_schedule_does_not_fire_and_resumes_with_its_next_time(kit: Kit, name: str) -> None:
    kit.registry.schedule(every(0.2))(noting(kit, [], name))
    fire = scheduler(kit)
    await fire.declare()
    assert (await fire.pause(name)).paused
    await asyncio.sleep(0.3)
    await fire.declare()  # a worker that starts meanwhile does not undo the pause
    await fire.run_once()
    assert await kit.client.redis.zcard(kit.queue_key) == 0
    found = await fire.resume(name)
    assert not found.paused
    assert found.next_run is not None
    assert found.next_run > datetime.now(UTC) - timedelta(milliseconds=50)


async def test_run_now_leaves_the_times_alone(kit: Kit, name: str) -> None:
    ran: list[Any] = []
    kit.registry.schedule("0 3 * * *", args={"value": 3})(noting(kit, ran, name))
    fire = scheduler(kit)
    await fire.declare()
    before = (await fire.find(name)).next_run
    handle = await fire.run_now(name, kit.client)
    await kit.drain()
    assert ran == [3]
    assert (await handle.job()).state.ended
    assert (await fire.find(name)).next_run == before


async def test_schedule_made_at_run_time(kit: Kit, name: str) -> None:
    ran: list[Any] = []
    noting(kit, ran, name)
    fire = scheduler(kit)
    record = make_record({"name": name, "job": name, "every": 0.3, "args": {"value": 5}})
    made = await fire.create(record)
    assert made.next_run is not None
    assert (await fire.create(record)).record == record
    with pytest.raises(ScheduleExists):
        await fire.create(make_record({"name": name, "job": name, "every": 60.0}))
    async with kit.worker():
        await eventually(lambda: ran_twice(ran))
    await fire.drop(name)
    for call in (fire.find, fire.drop, fire.pause, fire.resume):
        with pytest.raises(ScheduleNotFound):
            await call(name)


async def ran_twice(ran: list[Any]) -> bool:
    return len(ran) >= 2


async def test_schedule_of_a_job_that_cannot_run_is_refused(kit: Kit, name: str) -> None:
    noting(kit, [], name)
    with pytest.raises(UnknownJob):
        await scheduler(kit).create(make_record({"name": name, "job": "nobody", "every": 5.0}))
    with pytest.raises(InvalidArguments):
        await scheduler(kit).create(make_record({"name": name, "job": name, "every": 5.0, "args": {"value": "x"}}))


@pytest.fixture
async def somebodys(kit: Kit) -> AsyncIterator[str]:
    """The name of a queue whose key holds something else."""
    key = f"sky:{uuid.uuid4().hex[:12]}"
    await kit.client.redis.set(key, "somebody's")
    yield f"key={key}"
    await kit.client.redis.delete(key)


async def test_schedule_whose_queue_is_something_else_holds_up_no_other(kit: Kit, name: str, somebodys: str) -> None:
    bad = make_record({"name": name, "job": name, "every": MONTH, "options": {"queue": somebodys}})
    good = make_record({"name": f"{name}-good", "job": name, "every": MONTH})
    noting(kit, [], name)
    with pytest.raises(InvalidOptions, match="must be free or hold a queue, and holds a string in this Redis"):
        await scheduler(kit).create(bad)
    await kit.client.schedules.create(bad, NOON)  # as before somebody used its key
    await kit.client.schedules.create(good, NOON)
    fire = scheduler(kit)
    with logged("embarq.scheduler") as lines:
        await fire.run_once()
        await fire.run_once()
    told = [line for line in lines if line["event"] == "schedule cannot fire here"]
    assert [line["schedule"] for line in told] == [name]
    assert "something else" in told[0]["reason"]
    assert await kit.client.redis.zcard(kit.queue_key) == 1
    assert (await fire.find(name)).next_run == NOON, "it stays due"
    key = somebodys.removeprefix("key=")
    assert await kit.client.redis.get(key) == b"somebody's"
    await kit.client.redis.delete(key)
    await fire.run_once()
    assert await kit.client.redis.zcard(key) >= 1
    for each in (bad, good):
        await fire.drop(each.name)


async def test_schedule_that_cannot_fire_at_a_start_holds_up_no_other(kit: Kit, name: str, somebodys: str) -> None:
    note = noting(kit, [], name)
    elsewhere = kit.registry.job(queue=somebodys, name=f"{name}-bad")(note.function)
    for job in (elsewhere, note):
        kit.registry.schedule("0 3 * * *", run_at_startup=True)(job)
    (queued,) = await run_at_start(kit)
    assert queued.startswith(f"schedule~{name}~start~".encode())


async def test_schedule_with_times_that_are_none_holds_up_no_other(kit: Kit, name: str) -> None:
    good = make_record({"name": f"{name}-good", "job": name, "every": MONTH})
    bad = {"name": name, "job": name, "every": MONTH, "jitter": 1e300}
    noting(kit, [], name)
    await kit.client.redis.execute_command("HSET", keys.SCHEDULES, name, json.dumps(bad))
    await make_due(kit, name)
    await kit.client.schedules.create(good, NOON)
    await scheduler(kit).run_once()
    assert await kit.client.redis.zcard(kit.queue_key) == 1
    for each in (name, good.name):
        await scheduler(kit).drop(each)


async def test_missed_times_after_a_stop(kit: Kit, name: str) -> None:
    counts: Counter[str] = Counter()
    for rule in Missed:
        own = f"{name}-{rule}"

        async def note(rule: str = rule.value) -> None:
            counts[rule] += 1

        job = kit.registry.job(queue=kit.queue, name=own)(note)
        kit.registry.schedule(every(60), missed=rule.value)(job)
    fire = scheduler(kit)
    await fire.declare()
    for rule in Missed:
        await make_due(kit, f"{name}-{rule}", timedelta(minutes=10, seconds=30))
    await fire.run_once()
    await kit.drain()
    assert counts["all"] in {11, 12}
    assert counts["once"] - counts["skip"] == 1
    assert counts["skip"] in {0, 1, 2}


async def test_declared_schedule_that_nobody_knows_any_more_is_forgotten(kit: Kit, name: str) -> None:
    kit.registry.schedule(every(60))(noting(kit, [], name))
    await scheduler(kit).declare()
    await make_due(kit, name, timedelta(days=2))
    await Scheduler(kit.client.schedules, Registry()).run_once()
    with pytest.raises(ScheduleNotFound):
        await scheduler(kit).find(name)


@pytest.mark.parametrize("tz", ["No/Where", "../../etc/passwd", "x" * 500])
def test_zone_of_an_interval_is_checked_too(tz: str) -> None:
    with pytest.raises(InvalidSchedule, match="tz"):
        make_record({"name": "n", "job": "echo", "every": 60.0, "tz": tz})


@pytest.mark.parametrize("name", [".", ".."])
def test_name_that_clients_take_for_a_folder_is_refused(name: str) -> None:
    with pytest.raises(InvalidSchedule, match="name"):
        make_record({"name": name, "job": "echo", "every": 60.0})
    with pytest.raises(InvalidOptions, match="folder"):
        check_options("echo", {"id": name})
    with pytest.raises(InvalidOptions, match="folder"):
        check_options("echo", {"queue": name})


async def run_at_start(kit: Kit, **declared: Any) -> list[bytes]:
    """Eight workers' schedulers that start together, and what is queued then."""
    many = [Scheduler(kit.client.schedules, kit.registry, **declared) for _ in range(8)]
    await asyncio.gather(*(each.begin() for each in many))
    found: list[bytes] = await kit.client.redis.zrange(kit.queue_key, 0, -1)
    return found


async def started_ago(kit: Kit, name: str, ms: int) -> None:
    await kit.client.redis.execute_command("HINCRBY", keys.SCHEDULES_STARTED, name, -ms)


async def test_run_at_startup_comes_once_for_workers_that_start_together(kit: Kit, name: str) -> None:
    ran: list[Any] = []
    note = noting(kit, ran, name)
    kit.registry.schedule("0 3 * * *", run_at_startup=True, args={"value": 4})(note)
    kit.registry.schedule("0 3 * * *", name=f"{name}-not")(note)
    (queued,) = await run_at_start(kit)
    assert queued.startswith(f"schedule~{name}~start~".encode())
    before = await scheduler(kit).find(name)
    assert (before.last_job, before.next_run and before.next_run.hour) == (queued.decode(), 3)
    await kit.drain()
    assert ran == [4]
    assert await run_at_start(kit) == [], "others that start within the minute"
    await started_ago(kit, name, keys.STARTS_APART_MS)
    assert len(await run_at_start(kit)) == 1, "a later start"
    await kit.drain()
    assert ran == [4, 4]
    await started_ago(kit, name, -10 * keys.STARTS_APART_MS)  # Redis' clock was set back
    assert len(await run_at_start(kit)) == 1


async def test_start_that_is_none_and_a_paused_schedule_fire_nothing(kit: Kit, name: str) -> None:
    kit.registry.schedule("0 3 * * *", run_at_startup=True)(noting(kit, [], name))
    assert await run_at_start(kit, starts=False) == []
    await scheduler(kit).pause(name)
    assert await run_at_start(kit) == []


async def test_run_at_startup_does_not_come_beside_the_last_run_where_that_is_not_allowed(kit: Kit, name: str) -> None:
    kit.registry.schedule("0 3 * * *", run_at_startup=True, overlap="skip")(noting(kit, [], name))
    await scheduler(kit).declare()
    await make_due(kit, name)
    await scheduler(kit).run_once()
    (queued,) = await run_at_start(kit)
    assert b"start" not in queued


async def test_worker_runs_at_its_start_what_asks_for_it(kit: Kit, name: str) -> None:
    ran: list[Any] = []
    fired: list[Any] = []
    kit.registry.schedule("0 3 * * *", run_at_startup=True)(noting(kit, ran, name))
    kit.registry.schedule(every(0.1))(noting(kit, fired, f"{name}-often"))
    async with kit.worker(starts=False):
        await eventually(lambda: ran_twice(fired))
    assert not await kit.client.redis.execute_command("HEXISTS", keys.SCHEDULES_STARTED, name)
    assert ran == []
    async with kit.worker() as one, kit.worker() as other:

        async def both_have_begun() -> bool:
            return bool(ran) and one.is_seen and other.is_seen

        await eventually(both_have_begun)
        await asyncio.sleep(0.3)
    assert ran == [0]


def test_run_at_startup_is_for_code() -> None:
    with pytest.raises(InvalidSchedule, match="run_at_startup"):
        make_record({"name": "x", "job": "y", "every": 5.0, "run_at_startup": True})


async def test_schedule_with_both_days_is_told_in_the_log(kit: Kit, name: str) -> None:
    kit.registry.schedule("0 9 13 * fri")(noting(kit, [], name))
    assert "arq and Celery" in kit.registry.warnings()[name]
    own = scheduler(kit)
    with logged("embarq.scheduler") as lines:
        await own.begin()
    assert [line["schedule"] for line in lines] == [name]


async def test_doctor_tells_of_a_schedule_with_both_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Registry()
    own.schedule("0 9 13 * fri", name="friday-13")(own.job()(on_fridays))
    monkeypatch.setattr(doctor, "registry", own)
    nowhere = "redis://127.0.0.1:1"  # what other tests leave in theirs is looked at too, and may be much
    checks = await doctor.examine(Settings(data_dir=tmp_path, REDIS_URL=nowhere, jobs=("tests.worker.process_jobs",)))
    (found,) = (check for check in checks if check.what == "schedule friday-13")
    assert (found.ok, found.warning) == (True, True)
    assert "arq and Celery" in found.finding


async def on_fridays() -> None: ...


async def test_schedule_by_the_second(kit: Kit, name: str) -> None:
    ran: list[Any] = []
    kit.registry.schedule("* * * * * *")(noting(kit, ran, name))
    async with kit.worker():
        await eventually(lambda: ran_twice(ran))
    last = (await scheduler(kit).find(name)).last_run
    assert last is not None
    assert last.microsecond == 0
