"""What is declared wrongly is told in one line that says what to write."""

import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from worker import ConcurrencyLimit, Context, RateLimit, Registry, injected
from worker.core.errors import DefinitionError, InvalidOptions


class Mailer:
    """Has no JSON form."""


def declare(registry: Registry, **options: Any) -> None:
    @registry.job(**options)
    async def send(to: str) -> None: ...


def message(act: Callable[[], object]) -> str:
    with pytest.raises(DefinitionError) as caught:
        act()
    text = str(caught.value)
    assert "\n" not in text
    return text


async def test_job_without_parentheses(registry: Registry) -> None:
    @registry.job
    async def send(ctx: Context, to: str) -> str:
        return to

    assert registry.get("send") is send
    assert await send("a@example.test") == "a@example.test"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"time_out": 5}, "no option 'time_out'; did you mean 'timeout'?"),
        ({"max_retries": 5}, "no option 'max_retries'; did you mean 'max_tries'?"),
        ({"zzz": 5}, "no option 'zzz': it takes name, aliases, queue,"),
        ({"delay": 5}, "no option 'delay': give it to a call, as in send.options(delay=...).enqueue(...)"),
        ({"limits": "100/m"}, "@job(limits='100/m') must be like limits=[RateLimit(\"100/m\")]"),
        ({"limits": ["100/m"]}, 'must be like limits=[RateLimit("100/m")]'),
        ({"limits": 5}, 'must be like limits=[RateLimit("100/m")]'),
        ({"aliases": 5}, 'must be like aliases=("old_name",)'),
        ({"retry": 3}, "@job(retry=3) must be like retry=RetryPolicy(...)"),
        ({"process": "yes"}, "@job(process='yes') must be True or False"),
        ({"name": ""}, "must have 1 to 200 characters"),
        ({"name": 5}, "must have 1 to 200 characters: 5"),
        (
            {"soft_timeout": 20, "timeout": 10},
            "@job(soft_timeout=20, timeout=10): the soft limit must be the shorter one",
        ),
    ],
)
def test_wrong_option_says_what_to_write(registry: Registry, options: dict[str, Any], said: str) -> None:
    assert said in message(lambda: declare(registry, **options))


def test_option_out_of_range_is_refused_as_before(registry: Registry) -> None:
    with pytest.raises(InvalidOptions, match="/options/max_tries"):
        declare(registry, max_tries=0)


@pytest.mark.parametrize("limit", [RateLimit("100/m"), ConcurrencyLimit(2)])
def test_single_limit_needs_no_list(registry: Registry, limit: RateLimit | ConcurrencyLimit) -> None:
    declare(registry, limits=limit, aliases="old")
    assert registry.get("old").limits == (limit,)
    assert registry.get("old").declared["limits"] == (limit,)


async def anything() -> None: ...


async def yields() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        ("emails", "@job must be given its options by name: @job(name='emails')"),
        (Mailer, "@job must stand above a function, `async def` or `def`, not above <class"),
        (Mailer(), "@job must stand above a function"),
        (yields, "must return its result, not yield"),
    ],
)
def test_what_no_job_can_be_made_of(registry: Registry, thing: Any, said: str) -> None:
    assert said in message(lambda: registry.job(thing))
    assert said in message(lambda: registry.job()(thing))


def test_schedule_below_its_job(registry: Registry) -> None:
    schedule: Any = registry.schedule("0 3 * * *")
    said = message(lambda: registry.job()(schedule(anything)))
    what = r"'anything' \(tests/worker/definition/test_declarations\.py:\d+\)"
    assert re.fullmatch(rf"@schedule must stand above the @job of {what}: swap the two lines", said)


def test_schedule_that_does_not_say_when(registry: Registry) -> None:
    assert '@schedule("0 3 * * *")' in message(lambda: registry.schedule(anything))  # type: ignore[arg-type]  # the test


async def bare_context(ctx, to: str) -> None: ...  # type: ignore[no-untyped-def]  # the test


async def dict_context(ctx: dict[str, Any], to: str) -> None: ...


async def late_context(to: str, ctx: Context) -> None: ...


async def no_context(to: str, ctx: Context | None = None) -> None: ...


async def starred(*values: int) -> None: ...


async def keywords(**values: int) -> None: ...


async def by_place(value: int, /) -> None: ...


async def bare(value) -> None: ...  # type: ignore[no-untyped-def]  # the test


async def unreadable(value: "Nothing") -> None: ...  # type: ignore[name-defined]  # noqa: F821  # the test


async def strange(mailer: Mailer) -> None: ...


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (
            bare_context,
            "its context must be `ctx: Context` (from embarq import Context), an object where arq has a dict, not",
        ),
        (dict_context, "its context must be `ctx: Context` (from embarq import Context)"),
        (late_context, "its context must be the first parameter, `ctx: Context`"),
        (no_context, "its context must be the first parameter, `ctx: Context`"),
        (starred, "parameter *values must be sent by name: write a list, such as `values: list[int]`"),
        (keywords, "parameter **values must be named: write each argument, or a dict"),
        (by_place, "parameter value must be sent by name: leave out the `/`"),
        (bare, "parameter 'value' must have a type annotation, such as `value: int`"),
        (unreadable, "an annotation cannot be read: name 'Nothing' is not defined"),
        (
            strange,
            "parameter `mailer: Mailer` must have a JSON form, or a resource that provides it: take what",
        ),
    ],
)
def test_wrong_parameter_says_what_to_write(registry: Registry, function: Any, said: str) -> None:
    registry.job()(function)
    text = message(registry.check)
    line = function.__code__.co_firstlineno
    place = rf"job '{function.__name__}' \(tests/worker/definition/test_declarations\.py:{line}\): "
    assert re.match(place, text)
    assert said in text


def test_resource_that_nobody_provides(registry: Registry) -> None:
    @registry.job
    async def send(to: str, mailer: Mailer = injected) -> None: ...

    text = message(registry.check)
    assert "job 'send' (tests/worker/definition/test_declarations.py:" in text
    assert "a resource must provide `mailer: Mailer`: write an `async def` under @resource" in text
    assert "-> AsyncIterator[Mailer]" in text
    assert list(send.schema.names) == ["to"], "a client that does not provide it may still call the job"

    @registry.resource
    async def mailer() -> AsyncIterator[Mailer]:
        yield Mailer()

    registry.check()


def test_limit_by_what_is_no_argument(registry: Registry) -> None:
    declare(registry, limits=RateLimit("5/m", by="tenant"))
    assert "a limit must be by one of its arguments (to), not 'tenant'" in message(registry.check)
