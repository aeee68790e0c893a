from datetime import UTC, datetime
from typing import Any

import pytest

from worker import Context, EmbarqError, Registry, current_context
from worker.core.errors import DefinitionError, InvalidArguments, InvalidOptions, UnknownJob


def test_job_is_named_after_its_function(registry: Registry) -> None:
    @registry.job()
    async def hello(name: str) -> str:
        return name

    assert registry.get("hello") is hello
    assert hello.name == "hello"


def test_aliases_find_the_renamed_job(registry: Registry) -> None:
    @registry.job(name="new_name", aliases=("old_name",))
    async def hello() -> None: ...

    assert registry.get("old_name").name == registry.get("new_name").name == "new_name"
    assert [definition.name for definition in registry] == ["new_name"]


def test_two_functions_cannot_share_a_name(registry: Registry) -> None:
    @registry.job(name="same")
    async def first() -> None: ...

    with pytest.raises(DefinitionError, match=r"two jobs are named 'same': .*first .* and .*second"):

        @registry.job(name="same")
        async def second() -> None: ...


def test_unknown_name(registry: Registry) -> None:
    with pytest.raises(UnknownJob, match="'nope'"):
        registry.get("nope")


def test_declared_options_are_checked(registry: Registry) -> None:
    with pytest.raises(InvalidOptions, match="/options/timeout"):
        registry.job(timeout=-1)


@pytest.mark.parametrize(
    ("arguments", "pointer", "message"),
    [
        ({}, "/args/count", "Field required"),
        ({"count": "many"}, "/args/count", "valid integer"),
        ({"count": 1, "colour": "red"}, "/args/colour", "Extra inputs"),
        ({"count": 1, "when": {"at": 1}}, "/args/when", "valid datetime"),
    ],
)
def test_wrong_arguments_are_named(registry: Registry, arguments: dict[str, Any], pointer: str, message: str) -> None:
    @registry.job()
    async def work(ctx: Context, count: int, when: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None: ...

    with pytest.raises(InvalidArguments) as caught:
        work.call_with(arguments, {})
    (problem,) = caught.value.problems
    assert problem.pointer == pointer
    assert message in problem.message


def test_too_many_arguments_and_one_given_twice(registry: Registry) -> None:
    @registry.job()
    async def work(count: int) -> None: ...

    with pytest.raises(InvalidArguments, match=r"must be at most 1, not 2"):
        work.call(1, 2)  # type: ignore[call-arg]  # that is what is tested
    with pytest.raises(InvalidArguments, match="must not be given twice"):
        work.call(1, count=2)  # type: ignore[misc]  # that is what is tested


def test_arguments_become_json(registry: Registry) -> None:
    @registry.job()
    async def work(when: datetime, tags: set[str]) -> None: ...

    call = work.call(datetime(2026, 1, 2, tzinfo=UTC), tags={"a"})
    assert call.arguments == {"when": "2026-01-02T00:00:00Z", "tags": ["a"]}
    assert work.schema.validate(call.arguments) == {"when": datetime(2026, 1, 2, tzinfo=UTC), "tags": {"a"}}


def test_schema_shows_types_and_defaults(registry: Registry) -> None:
    @registry.job()
    async def work(ctx: Context, count: int, label: str = "x") -> None: ...

    schema = work.schema.json_schema()
    assert set(schema["properties"]) == {"count", "label"}
    assert schema["required"] == ["count"]
    assert schema["properties"]["label"]["default"] == "x"


def test_parameters_must_be_annotated_and_named(registry: Registry) -> None:
    @registry.job()
    async def bare(value) -> None: ...  # type: ignore[no-untyped-def]  # that is what is tested

    @registry.job()
    async def starred(*values: int) -> None: ...

    with pytest.raises(DefinitionError, match="'value' must have a type annotation"):
        bare.schema  # noqa: B018  # building it checks
    with pytest.raises(DefinitionError, match=r"\*values must be sent by name: write a list"):
        starred.schema  # noqa: B018  # building it checks


@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        ({"delay": -1}, "/options/delay"),
        ({"queue": "a b"}, "/options/queue"),
        ({"queue": "health-check"}, "/options/queue"),
        ({"colour": 1}, "/options/colour"),
        ({"run_at": "2026-01-01T00:00:00"}, "/options/run_at"),
        ({"delay": 1, "run_at": "2026-01-01T00:00:00Z"}, "/options/run_at"),
        ({"max_tries": 0}, "/options/max_tries"),
        ({"id": "a/b"}, "/options/id"),
    ],
)
def test_wrong_options_are_named(registry: Registry, options: Any, pointer: str) -> None:
    @registry.job()
    async def work() -> None: ...

    with pytest.raises(InvalidOptions) as caught:
        work.options(**options)
    assert caught.value.problems[0].pointer == pointer


async def test_job_can_be_called_directly(registry: Registry) -> None:
    @registry.job()
    async def add(ctx: Context, a: int, b: int) -> int:
        assert ctx.job == "add"
        return a + b

    @registry.job()
    def double(value: int) -> int:
        return 2 * value

    assert await add(1, b=2) == 3
    assert await double(4) == 8
    assert current_context() is None


async def test_enqueue_without_a_client_says_what_to_do(registry: Registry) -> None:
    @registry.job()
    async def work() -> None: ...

    with pytest.raises(EmbarqError, match=r"registry\.bind"):
        await work.enqueue()
