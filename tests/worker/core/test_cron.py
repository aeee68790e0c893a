from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.core.cron import Cron, Every, Times
from worker.core.errors import InvalidSchedule

BERLIN = ZoneInfo("Europe/Berlin")


def local(times: Times, start: datetime, count: int) -> list[str]:
    return [f"{found.astimezone(BERLIN):%d. %H:%M %z}" for found in islice(times.after(start), count)]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "first", "second"),
    [
        ("0 3 * * *", "2026-05-02 03:00", "2026-05-03 03:00"),
        ("*/15 9-17 * * mon-fri", "2026-05-01 12:15", "2026-05-01 12:30"),
        ("0 0 1 jan,jul *", "2026-07-01 00:00", "2027-01-01 00:00"),
        ("0 0 29 2 *", "2028-02-29 00:00", "2032-02-29 00:00"),
        ("0 0 13 * fri", "2026-05-08 00:00", "2026-05-13 00:00"),  # the day of the month or of the week
        ("5 4 * * 0", "2026-05-03 04:05", "2026-05-10 04:05"),
        ("5 4 * * 7", "2026-05-03 04:05", "2026-05-10 04:05"),
        ("@hourly", "2026-05-01 13:00", "2026-05-01 14:00"),
        ("@weekly", "2026-05-03 00:00", "2026-05-10 00:00"),
    ],
)
def test_times_of_expressions(expression: str, first: str, second: str) -> None:
    found = list(islice(Cron(expression).after(at("2026-05-01 12:00")), 2))
    assert found == [at(first), at(second)]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("*/20 * * * * *", ["12:00:20", "12:00:40", "12:01:00"]),
        ("5,50 30 * * * *", ["12:30:05", "12:30:50", "13:30:05"]),
        ("0 0 13 * * *", ["13:00:00", "13:00:00", "13:00:00"]),
        ("59-59 59 23 31 12 *", ["23:59:59", "23:59:59", "23:59:59"]),
    ],
)
def test_first_of_six_fields_is_the_second(expression: str, expected: list[str]) -> None:
    found = list(islice(Cron(expression).after(at("2026-05-01 12:00")), 3))
    assert [f"{each:%H:%M:%S}" for each in found] == expected
    assert found == sorted(set(found))


@pytest.mark.parametrize("second", [0, 1, 19, 20, 21, 40, 59])
def test_times_with_seconds_are_after_the_moment(second: int) -> None:
    moment = at("2026-05-01 12:00") + timedelta(seconds=second, microseconds=500)
    found = next(Cron("0,20,40 * * * * *").after(moment))
    assert found == at("2026-05-01 12:00") + timedelta(seconds=(second // 20 + 1) * 20)


@pytest.mark.parametrize("tz", ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns"])
@pytest.mark.parametrize("fields", ["30 2 * * *", "*/15 * * * *", "0 */2 * * *", "15 1-3 * * sun"])
@pytest.mark.parametrize("start", ["2026-03-28 20:00", "2026-10-24 20:00", "2026-04-04 10:00", "2026-10-03 10:00"])
def test_six_fields_follow_changed_clocks_as_five_do(tz: str, fields: str, start: str) -> None:
    moment = at(start) + timedelta(seconds=30)
    five, six = Cron(fields, tz).after(moment), Cron(f"10 {fields}", tz).after(moment)
    assert list(islice(six, 60)) == [each + timedelta(seconds=10) for each in islice(five, 60)]


@pytest.mark.parametrize("expression", ["0 9 1 * mon", "0 0 9 13 * fri", "0 0 1-7 * 1", "0 0 l * 5l"])
def test_both_days_given_are_warned_of(expression: str) -> None:
    told = Cron(expression).warning
    assert told is not None
    assert "arq and Celery" in told


@pytest.mark.parametrize(
    "expression", ["0 9 1 * *", "0 9 * * mon", "0 9 */2 * mon", "* * * * * *", "@weekly", "@daily"]
)
def test_one_day_given_is_not_warned_of(expression: str) -> None:
    assert Cron(expression).warning is None


def test_daily_job_runs_once_on_the_day_that_has_an_hour_less() -> None:
    start = at("2026-03-27 12:00")
    assert local(Cron("0 3 * * *", "Europe/Berlin"), start, 3) == [
        "28. 03:00 +0100",
        "29. 03:00 +0200",
        "30. 03:00 +0200",
    ]
    # 02:30 does not exist on the 29th: it runs as soon as the clock has jumped
    assert local(Cron("30 2 * * *", "Europe/Berlin"), start, 3) == [
        "28. 02:30 +0100",
        "29. 03:00 +0200",
        "30. 02:30 +0200",
    ]


def test_daily_job_runs_once_on_the_day_that_has_an_hour_twice() -> None:
    start = at("2026-10-24 12:00")
    assert local(Cron("30 2 * * *", "Europe/Berlin"), start, 2) == ["25. 02:30 +0200", "26. 02:30 +0100"]


def test_frequent_job_runs_in_every_hour_that_there_is() -> None:
    spring = list(islice(Cron("*/30 * * * *", "Europe/Berlin").after(at("2026-03-28 22:00")), 12))
    autumn = list(islice(Cron("*/30 * * * *", "Europe/Berlin").after(at("2026-10-24 22:00")), 12))
    for found in (spring, autumn):
        assert {after - before for before, after in pairwise(found)} == {timedelta(minutes=30)}


@pytest.mark.parametrize(
    ("expression", "tz"),
    [
        ("", "UTC"),
        ("* * * *", "UTC"),
        ("* * * * * * *", "UTC"),
        ("60 * * * * *", "UTC"),
        ("@daily 5", "UTC"),
        ("61 * * * *", "UTC"),
        ("* * * * someday", "UTC"),
        ("0 0 30 2 *", "UTC"),
        ("* * * * *", "Mars/Olympus"),
        ("* * * * *", "../etc/passwd"),
        ("@sometimes", "UTC"),
    ],
)
def test_what_is_no_schedule_is_refused(expression: str, tz: str) -> None:
    with pytest.raises(InvalidSchedule):
        Cron(expression, tz)


@pytest.mark.parametrize("seconds", [0, -1, 0.01, 1e9, float("nan"), float("inf")])
def test_wrong_intervals_are_refused(seconds: float) -> None:
    with pytest.raises(InvalidSchedule):
        Every(seconds)


MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC))


@given(st.floats(0.1, 1e6), MOMENTS)
def test_intervals_are_known_to_all_and_even(seconds: float, moment: datetime) -> None:
    one, two, three = islice(Every(seconds).after(moment), 3)
    assert moment < one <= moment + timedelta(seconds=seconds, milliseconds=2)
    assert two - one == three - two == timedelta(milliseconds=round(seconds * 1000))
    assert next(Every(seconds).after(one)) == two


def field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    return st.one_of(
        st.just("*"),
        number.map(str),
        st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}"),
        st.integers(1, high).map(lambda step: f"*/{step}"),
        st.lists(number, min_size=1, max_size=3).map(lambda many: ",".join(map(str, many))),
    )


def values(text: str, low: int, high: int) -> set[int]:
    """What a field allows, read in the plainest way."""
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        begin, end = (low, high) if span == "*" else (int(first), int(last or first))
        found |= set(range(begin, end + 1, int(step or 1)))
    return found


@settings(max_examples=150, deadline=None)
@given(field(0, 59), field(0, 23), field(1, 28), field(1, 12), MOMENTS)
def test_times_are_those_that_fit_the_fields(minute: str, hour: str, day: str, month: str, moment: datetime) -> None:
    found = list(islice(Cron(f"{minute} {hour} {day} {month} *").after(moment), 5))
    assert found == sorted(set(found))
    allowed = (values(minute, 0, 59), values(hour, 0, 23), values(day, 1, 31), values(month, 1, 12))
    for each in found:
        assert all(
            part in fits for part, fits in zip((each.minute, each.hour, each.day, each.month), allowed, strict=True)
        )
    each = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
    for _ in range(3000):  # none in between is left out
        fits = all(
            part in fits for part, fits in zip((each.minute, each.hour, each.day, each.month), allowed, strict=True)
        )
        if fits:
            assert found[0] == each
            break
        each += timedelta(minutes=1)
    else:
        assert found[0] >= each


@settings(max_examples=100, deadline=None)
@given(MOMENTS, st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]))
def test_hourly_times_are_an_hour_apart_in_any_zone(moment: datetime, tz: str) -> None:
    found = list(islice(Cron("17 * * * *", tz).after(moment), 10))
    gaps = [after - before for before, after in pairwise(found)]
    assert all(timedelta(minutes=29) < gap < timedelta(minutes=91) for gap in gaps)
