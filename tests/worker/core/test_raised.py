"""Exceptions keep their class on their way to whoever waits, where that is loaded; nothing is loaded for it."""

import asyncio
import gc
import json
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any, ClassVar

import arq
import pytest
from arq.connections import RedisSettings
from arq.jobs import Job as ArqJob

from tests.support import Kit
from tests.worker import process_jobs
from worker import Client, JobError
from worker.client.arq_compat import arq_deserializer, arq_serializer
from worker.core import keys
from worker.core.errors import JobFailed
from worker.core.job import read_error
from worker.core.raised import LONGEST_ARG, path_of, rebuilt, traits


class Declined(Exception):
    """Its constructor takes other arguments than `args` has, and may not run again."""

    calls = 0

    def __init__(self, order: int, reason: str) -> None:
        type(self).calls += 1
        super().__init__(f"order {order}: {reason}")

    class Soft(ValueError):
        """Inside another class."""


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("cannot say")


class Forged(Exception):
    made = 0

    def __new__(cls, *args: object) -> "Forged":
        cls.made += 1
        return super().__new__(cls, *args)


class Sprung:
    """Which code of theirs has run."""

    by: ClassVar[list[str]] = []


class Lazy:
    """As libraries make stand-ins for what is looked up at its first use."""

    @property  # type: ignore[misc]  # so do they
    def __class__(self) -> type:
        Sprung.by.append("__class__")
        raise LookupError("there is nothing behind this stand-in now")


class Meta(type):
    @property  # type: ignore[misc]  # that is the trap
    def __dict__(cls) -> dict[str, Any]:  # type: ignore[override]
        Sprung.by.append("__dict__")
        raise LookupError

    @property
    def __mro__(cls) -> tuple[type, ...]:
        Sprung.by.append("__mro__")
        raise LookupError

    def __instancecheck__(cls, instance: object) -> bool:
        Sprung.by.append("__instancecheck__")
        raise LookupError

    def __subclasscheck__(cls, subclass: type) -> bool:
        Sprung.by.append("__subclasscheck__")
        raise LookupError

    def __getattribute__(cls, name: str) -> Any:
        if name not in {"__module__", "__qualname__", "__name__"}:  # which pytest and we read of it elsewhere
            Sprung.by.append(name)
        return super().__getattribute__(name)


class Guarded(Exception, metaclass=Meta):
    """All that a metaclass can have of its own."""


class Leaving(Exception):
    def __del__(self) -> None:
        Sprung.by.append("__del__")


lazy = Lazy()


@pytest.fixture
def failing(kit: Kit) -> Any:
    @kit.registry.job()
    async def fail(how: str) -> None:
        errors: dict[str, Exception] = {
            "own": Declined(7, "no credit"),
            "inner": Declined.Soft("too soft"),
            "key": KeyError("missing"),
            "os": FileNotFoundError(2, "No such file", "/nowhere"),
            "object": ValueError(object, 1, None),
        }
        raise errors[how]

    return fail


@pytest.mark.parametrize(
    ("how", "kind", "args", "text"),
    [
        ("own", Declined, ("order 7: no credit",), "order 7: no credit"),
        ("inner", Declined.Soft, ("too soft",), "too soft"),
        ("key", KeyError, ("missing",), "'missing'"),
        ("os", FileNotFoundError, (2, "No such file"), "[Errno 2] No such file"),
        ("object", ValueError, ("<class 'object'>", 1, None), "(\"<class 'object'>\", 1, None)"),
    ],
)
async def test_whoever_waits_gets_the_class_that_was_raised(
    kit: Kit, failing: Any, how: str, kind: type[Exception], args: tuple[object, ...], text: str
) -> None:
    handle = await kit.enqueue(failing, {"how": how})
    await kit.drain()
    Declined.calls = 0
    with pytest.raises(JobFailed) as told:
        await handle.result(1)
    cause = told.value.__cause__
    assert type(cause) is kind
    assert (cause.args, str(cause), Declined.calls) == (args, text, 0)
    error = (await handle.job()).error
    assert error is not None
    assert error.type == kind.__name__
    assert error.traceback is not None


async def test_class_of_a_job_in_a_process(client: Client, queue: str) -> None:
    kit = Kit(client, process_jobs.registry, queue)
    handle = await kit.enqueue(process_jobs.fail, {"how": "key"}, max_tries=1)
    await kit.drain()
    with pytest.raises(JobFailed) as told:
        await handle.result(1)
    assert isinstance(told.value.__cause__, KeyError)
    assert told.value.__cause__.args == ("missing",)


async def test_retry_of_arq_whose_tries_are_used_up_is_no_cause(kit: Kit) -> None:
    @kit.registry.job(max_tries=1)
    async def again() -> None:
        raise arq.Retry(defer=1)

    handle = await kit.enqueue(again)
    await kit.drain()
    with pytest.raises(JobFailed, match="Retry") as told:
        await handle.result(1)
    assert told.value.__cause__ is None


async def test_plain_arq_raises_the_class_that_was_raised(kit: Kit, failing: Any, redis_url: str) -> None:
    handle = await kit.enqueue(failing, {"how": "own"})
    await kit.drain()
    pool = await arq.create_pool(
        RedisSettings.from_dsn(redis_url), job_serializer=arq_serializer, job_deserializer=arq_deserializer
    )
    job = ArqJob(handle.id, pool, kit.queue_key, arq_deserializer)
    with pytest.raises(Declined, match="order 7: no credit"):
        await job.result(timeout=5)
    await pool.aclose(close_connection_pool=True)
    with pytest.raises(Declined, match="order 7: no credit"):  # our client is a pool of arq's too
        await ArqJob(handle.id, kit.client.arq, kit.queue_key, kit.client.arq.job_deserializer).result(timeout=5)


async def test_handler_of_a_failure_is_given_what_it_was_given_before(kit: Kit, failing: Any) -> None:
    seen: list[Any] = []

    @kit.registry.job(queue=kit.queue)
    async def tell(cause: dict[str, Any]) -> None:
        seen.append(cause)

    await kit.enqueue(failing, {"how": "key"}, on_error=tell.s())
    await kit.drain()
    assert set(seen[0]["error"]) == {"type", "message", "traceback"}


async def test_result_of_another_release_or_writer_has_no_cause(kit: Kit, failing: Any) -> None:
    handle = await kit.enqueue(failing, {"how": "own"})
    await kit.drain()
    key = keys.RESULT + handle.id
    record = json.loads(await kit.client.redis.get(key) or b"")
    written: list[dict[str, Any]] = [
        {"type": "X", "message": "as the release before wrote it", "traceback": None},
        {"type": "X", "message": "hostile", "traceback": None, "class": "subprocess:Popen", "args": ["touch /tmp/x"]},
        {"type": "X", "message": "hostile", "traceback": None, "class": ["a"], "args": {"b": 1}},
        {"type": "X", "message": "hostile", "class": "builtins:SystemExit", "args": [0]},
    ]
    for r in written:
        await kit.client.redis.set(key, json.dumps(record | {"r": r}))
        with pytest.raises(JobFailed, match=str(r["message"])) as told:
            await handle.result(1)
        assert told.value.__cause__ is None


@pytest.fixture
def trap() -> Iterator[ModuleType]:
    class Trap(ModuleType):
        sprung = False

        def __getattr__(self, name: str) -> object:
            Trap.sprung = True
            return ValueError

    module = Trap("embarq_trap")
    sys.modules["embarq_trap"] = module
    yield module
    del sys.modules["embarq_trap"]


@pytest.mark.parametrize(
    "path",
    [
        "",
        ":",
        "builtins",
        "builtins:",
        "builtins:print",
        "builtins:SystemExit",
        "builtins:KeyboardInterrupt",
        "builtins:object",
        "builtins:ExceptionGroup",
        "os:environ",
        "os:path.join",
        "antigravity:Error",
        "embarq_trap:Anything",
        "tests.worker.core.test_raised:Declined.calls",
        "tests.worker.core.test_raised:Declined.__class__",
        "tests.worker.core.test_raised:failing.<locals>.Error",
        "x" * 100_000,
    ],
)
def test_hostile_paths_make_nothing_and_load_nothing(path: str, trap: ModuleType) -> None:
    before = set(sys.modules)
    assert rebuilt(JobError("X", "m", path=path, args=("a", 1))) is None
    assert set(sys.modules) == before
    assert not vars(type(trap))["sprung"]


@pytest.mark.parametrize("name", ["lazy", "Lazy.__class__", "Leaving", "lazy.Anything", "Guarded.Inner"])
def test_stand_ins_and_what_runs_at_its_end_make_nothing(name: str) -> None:
    Sprung.by.clear()
    assert rebuilt(JobError("X", "m", path=f"{__name__}:{name}", args=("a",))) is None
    gc.collect()
    assert Sprung.by == []


def test_module_that_is_a_stand_in_makes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class LazyModule(ModuleType):
        @property
        def __dict__(self) -> dict[str, Any]:  # type: ignore[override]  # that is the trap
            Sprung.by.append("__dict__")
            raise LookupError

    Sprung.by.clear()
    monkeypatch.setitem(sys.modules, "embarq_lazy", lazy)  # some libraries do
    monkeypatch.setitem(sys.modules, "embarq_lazy_module", LazyModule("embarq_lazy_module"))
    for module in ("embarq_lazy", "embarq_lazy_module"):
        assert rebuilt(JobError("X", "m", path=f"{module}:Anything", args=("a",))) is None
    assert Sprung.by == []


def test_metaclass_of_an_exception_does_not_run() -> None:
    Sprung.by.clear()
    made = rebuilt(JobError("Guarded", "m", path=f"{__name__}:Guarded", args=("a",)))
    assert Sprung.by == []
    assert type(made) is Guarded
    assert made.args == ("a",)


async def test_waiter_is_told_of_the_failure_where_its_class_is_a_stand_in_by_now(kit: Kit, failing: Any) -> None:
    handle = await kit.enqueue(failing, {"how": "own"})
    await kit.drain()
    key = keys.RESULT + handle.id
    record = json.loads(await kit.client.redis.get(key) or b"")
    stale = {"type": "Old", "message": "of an older release", "class": f"{__name__}:lazy", "args": ["a"]}
    await kit.client.redis.set(key, json.dumps(record | {"r": stale}))
    with pytest.raises(JobFailed, match="of an older release") as told:
        await handle.result(1)
    assert told.value.__cause__ is None


def test_constructors_of_python_do_not_run() -> None:
    made = rebuilt(JobError("Forged", "m", path=path_of(Forged), args=("a",)))
    assert type(made) is Forged
    assert (made.args, Forged.made) == (("a",), 0)


@pytest.mark.parametrize("args", [(), ("a",), ("a", 1, 2, 3, 4, 5), (None,), (1.5, True)])
@pytest.mark.parametrize(
    "kind", [UnicodeDecodeError, OSError, ImportError, SyntaxError, StopAsyncIteration, json.JSONDecodeError]
)
def test_any_class_with_any_arguments_is_made_or_not_but_never_raises(
    kind: type[Exception], args: tuple[Any, ...]
) -> None:
    made = rebuilt(JobError(kind.__name__, "m", path=path_of(kind), args=args))
    assert made is None or isinstance(made, kind)


def test_what_is_written_of_an_error_is_bounded() -> None:
    error = ValueError(*["x" * 100_000] * 100, 10**40)
    written = traits(error, "other")
    assert len(json.dumps(written)) < 12 * LONGEST_ARG
    again = rebuilt(read_error({"type": "ValueError", "message": "other", **written}))
    assert isinstance(again, ValueError)
    assert traits(asyncio.CancelledError(), "") == {}
    assert traits(SystemExit(3), "3") == {}
    assert "args" not in traits(ValueError("one"), "one")


async def test_job_whose_error_cannot_say_what_it_is_fails_all_the_same(kit: Kit) -> None:
    @kit.registry.job()
    async def fail(deep: bool) -> None:
        raise ValueError(Unspeakable()) if deep else Unspeakable

    handles = [await kit.enqueue(fail, {"deep": deep}) for deep in (True, False)]
    await kit.drain()
    assert [(await handle.job()).state.value for handle in handles] == ["failed", "failed"]
