"""Bounds of what callers may ask for: the same for Python and HTTP, but for the ids of the system's own."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from worker import Registry, Retry, RetryPolicy
from worker.core.cron import Cron
from worker.core.errors import DefinitionError, InvalidArguments, InvalidOptions, InvalidSchedule, InvalidWorkflow
from worker.core.job import from_ms
from worker.core.limits import ConcurrencyLimit, RateLimit
from worker.core.options import MOST_PROBLEMS, check_client_options, check_options
from worker.core.schedule import make_record
from worker.core.workflow_graph import check_client_workflow_options, check_workflow_options

TIMES = ("expires_in", "soft_timeout", "timeout", "unique_for", "debounce", "throttle")


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("value", [0, -1, 1e-9, 0.0009, math.nan, math.inf, 1e300, 10**400])
def test_times_below_a_millisecond_or_out_of_bounds_are_refused(name: str, value: float) -> None:
    with pytest.raises(InvalidOptions) as caught:
        check_options("x", {name: value})
    assert [problem.pointer for problem in caught.value.problems] == [f"/options/{name}"]


@pytest.mark.parametrize(
    "options",
    [
        *({name: 0.001} for name in TIMES),
        {"delay": 0},
        {"delay": 0.0001},
        {"result_ttl": 0},
        {"result_ttl": None},
        {"result_ttl": 0.001},
        {"run_at": "1970-01-01T00:00:00Z"},
        {"run_at": "2199-12-31T23:59:59.999Z"},
    ],
)
def test_what_is_just_within_bounds_is_taken(options: dict[str, Any]) -> None:
    assert check_options("x", options).keys() == options.keys()


@pytest.mark.parametrize(
    "options",
    [
        {"delay": math.nan},
        {"delay": -0.001},
        {"result_ttl": 0.0001},
        {"result_ttl": math.inf},
        {"run_at": "9999-12-31T23:59:59.999999Z"},
        {"run_at": datetime.max.replace(tzinfo=UTC)},
        {"run_at": datetime.min.replace(tzinfo=UTC)},
        {"run_at": "0001-01-01T00:00:00+23:59"},
        {"run_at": "2200-01-01T00:00:00Z"},
        {"run_at": "2026-01-01T00:00:00"},
        {"id": "x" * 201},
        {"id": "a\n"},
        {"tags": ["a\0b"]},
        {"tags": ["x" * 101]},
        {"unique_for": 1, "unique_key": "x" * 201},
        {"max_tries": 2**63},
    ],
)
def test_what_no_store_can_hold_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOptions):
        check_options("x", options)


def test_ids_of_the_system_are_not_for_callers() -> None:
    assert check_options("x", {"id": "key~1"}) == {"id": "key~1"}
    assert check_workflow_options({"id": "order~1"}) == {"id": "order~1"}
    with pytest.raises(InvalidOptions) as caught:
        check_client_options("x", {"id": "key~1"})
    assert caught.value.problems[0].pointer == "/options/id"
    with pytest.raises(InvalidWorkflow):
        check_client_workflow_options({"id": "order~1"})
    assert check_client_options("x", {"id": "order-1"}) == {"id": "order-1"}


@pytest.mark.parametrize("declared", [{"unique_for": 1e-9}, {"debounce": math.nan}, {"timeout": 0}, {"max_tries": 0}])
def test_a_job_declares_within_the_same_bounds(registry: Registry, declared: dict[str, Any]) -> None:
    with pytest.raises(InvalidOptions):
        registry.job(**declared)


@pytest.mark.parametrize("declared", [{"name": ""}, {"name": "x" * 201}, {"aliases": ("x" * 201,)}])
def test_a_jobs_names_are_bounded(registry: Registry, declared: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError):
        registry.job(**declared)


def test_delays_of_retries_and_limits_are_bounded() -> None:
    for delay in (math.nan, math.inf, 1e300):
        with pytest.raises(ValueError, match="delay"):
            Retry(delay=delay)
        with pytest.raises(ValueError, match="delay"):
            RetryPolicy(delay=delay)
    with pytest.raises(DefinitionError):
        RateLimit("1/99999999999d")
    with pytest.raises(DefinitionError):
        ConcurrencyLimit(2**60)


def test_problems_are_twenty_and_say_how_many_more(registry: Registry) -> None:
    @registry.job()
    async def add(numbers: list[int]) -> int:
        return sum(numbers)

    with pytest.raises(InvalidArguments) as caught:
        add.schema.validate({"numbers": ["x"] * 100})
    assert len(caught.value.problems) == MOST_PROBLEMS + 1
    assert caught.value.problems[-1].message == "80 more problems"
    with pytest.raises(InvalidArguments) as caught:
        add.schema.validate({"numbers": ["x"] * 500_000})
    assert [problem.pointer for problem in caught.value.problems] == ["/args/numbers/0"]
    with pytest.raises(InvalidArguments) as caught:
        add.schema.validate({str(n): n for n in range(100_000)})
    assert len(str(caught.value)) < 200


def test_long_values_are_cut_in_messages(registry: Registry) -> None:
    @registry.job()
    async def pick(one: dict[str, int]) -> None: ...

    with pytest.raises(InvalidArguments) as caught:
        pick.schema.validate({"one": {"k" * 100_000: "x"}})
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("ms", [math.nan, math.inf, -math.inf, -1e300, 1e300, 2**63, -(2**63), 10**400])
def test_times_from_redis_never_raise(ms: float) -> None:
    moment = from_ms(ms)
    assert moment.astimezone(UTC).isoformat()
    assert moment + timedelta(hours=14) > moment


@pytest.mark.parametrize(
    "change",
    [
        {"cron": "0,1," * 100 + "0 3 * * *"},
        {"tz": "x" * 200},
        {"name": "x" * 101},
        {"job": "x" * 201},
        {"args": {"value": "x" * 66_000}},
        {"options": {"tags": ["x" * 66_000]}},
        {"jitter": math.nan},
        {"cron": None, "every": math.nan},
        {"x" * 1000: 1},
    ],
)
def test_schedules_are_bounded(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidSchedule) as caught:
        make_record({"name": "s", "job": "echo", "cron": "0 3 * * *"} | change)
    assert len(str(caught.value)) < 500


def test_a_cron_expression_is_two_hundred_characters_at_most() -> None:
    with pytest.raises(InvalidSchedule):
        Cron("0" * 200 + " 3 * * *")
