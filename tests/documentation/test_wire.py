"""`docs/wire.md` names every key and every field of the wire, and none that is not there."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

import worker
from tests.support import ROOT, Kit
from worker import Client, ConcurrencyLimit, Context, RateLimit, Registry, Retry, WorkflowState, chain, group
from worker.broker import scripts
from worker.broker.inspect import WorkerRecord
from worker.broker.workflow_records import NodeRecord
from worker.core import keys, wire
from worker.core.schedule import ScheduleRecord, make_record
from worker.runtime.scheduler import Scheduler

PAGE = ROOT / "docs" / "wire.md"
LUA = Path(inspect.getfile(scripts)).parent / "lua"
REDIS_TYPES = {"string", "list", "set", "zset", "hash", "stream"}
SPANS = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading: its text, and the rows of its table, a list of cells each."""

    title: str
    text: str

    @property
    def rows(self) -> list[list[str]]:
        lines = [line for line in self.text.splitlines() if line.startswith("|")]
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]

    def column(self, number: int) -> list[str]:
        """The first name in each cell of a column."""
        return [SPANS.findall(row[number])[0] for row in self.rows]


def sections() -> dict[str, Section]:
    parts = re.split(r"^#{2,3} (.+)\n", PAGE.read_text(), flags=re.MULTILINE)
    return {title: Section(title, text) for title, text in zip(parts[1::2], parts[2::2], strict=True)}


def key_constants() -> dict[str, str]:
    """Names of keys, or how they begin, by the names of the constants; a lease's value begins as our keys do."""
    named = {name: value for name, value in vars(keys).items() if name.isupper() and isinstance(value, str)}
    found = {name: value for name, value in named.items() if value.startswith(("arq:", "embarq:"))}
    del found["TOKEN"]
    return {**found, "HEALTH_CHECK": keys.QUEUE + keys.HEALTH_CHECK}


def start_of(key: str) -> str:
    """A key without its variable end: `arq:job:` of `arq:job:<id>`."""
    return key.partition("<")[0]


def structs() -> Iterator[type[msgspec.Struct]]:
    """All that is written to Redis as msgspec packs it; who only passes a result on reads the same fields."""
    for _, kind in inspect.getmembers(wire, inspect.isclass):
        if issubclass(kind, msgspec.Struct) and kind is not wire.UnreadResult:
            yield kind
    yield from (NodeRecord, ScheduleRecord, WorkerRecord)


def hash_fields(constant: str) -> set[str]:
    """Fields of a hash that scripts name."""
    found: set[str] = set()
    for script in LUA.glob("*.lua"):
        text = re.sub(r"\s+", " ", script.read_text())
        for command, rest in re.findall(rf"'(H[A-Z]+)', {constant}(?: \.\. [\w.]+)?, ([^)]*)", text):
            words = re.findall(r"[^,\s]+(?:\[[^]]*\])?", rest)
            named = words[::2] if command == "HSET" else words[:1] if command in ("HGET", "HINCRBY") else words
            found |= {word.strip("'") for word in named if re.fullmatch(r"'[a-z]+'", word)}
    return found


def test_every_key_is_named_and_no_other() -> None:
    documented = {start_of(key) for key in sections()["Every key"].column(0)}
    assert documented == set(key_constants().values())


def test_types_are_those_of_redis() -> None:
    assert {row[1] for row in sections()["Every key"].rows} <= REDIS_TYPES | {"channel", "any"}


def test_files_that_write_or_read_a_key_name_it() -> None:
    """By its constant; the keys of queues are given to them instead."""
    constants = {value: name for name, value in key_constants().items() if name != "QUEUE"}
    wrong = []
    for row in sections()["Every key"].rows:
        constant = constants.get(start_of(SPANS.findall(row[0])[0]))
        files = [file for file in SPANS.findall("|".join(row[3:6])) if file.endswith((".lua", ".py"))]
        texts = {file: (LUA / file if file.endswith(".lua") else ROOT / file).read_text() for file in files}
        wrong += [file for file, text in texts.items() if constant and not re.search(rf"\b{constant}\b", text)]
    assert not wrong, f"these name no such key: {wrong}"


@pytest.mark.parametrize("kind", list(structs()), ids=lambda kind: kind.__name__)
def test_every_field_of_a_record_is_named_and_no_other(kind: type[msgspec.Struct]) -> None:
    (section,) = [each for each in sections().values() if each.text.strip().startswith(f"`{kind.__name__}` in `")]
    file = section.text.strip().split("`")[3]
    assert ROOT / file == Path(inspect.getfile(kind))
    documented = dict(zip(section.column(0), section.column(1), strict=True))
    assert documented == {field.encode_name: field.name for field in msgspec.structs.fields(kind)}


def test_no_record_of_another_module_is_written_unnamed() -> None:
    """A struct whose fields have short names is one that is packed for Redis."""
    known = {kind.__name__ for kind in structs()} | {"UnreadResult"}
    for module in pkgutil.walk_packages(worker.__path__, "worker."):
        if "migrations" in module.name or module.name.endswith("__main__"):
            continue
        for name, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(kind, msgspec.Struct) and kind.__module__ == module.name and name not in known:
                short = [field.name for field in msgspec.structs.fields(kind) if field.encode_name != field.name]
                assert not short, f"{module.name}.{name} has {short}, which docs/wire.md does not explain"


@pytest.mark.parametrize(("title", "constant"), [("Workflow", "WORKFLOW"), ("Step that runs once", "name")])
def test_every_field_of_a_hash_is_named_and_no_other(title: str, constant: str) -> None:
    assert set(sections()[title].column(0)) == hash_fields(constant)


def test_fields_that_scripts_pack_by_themselves_are_named() -> None:
    left = " ".join(re.findall(r"leave\(\{(.*?)\}\)", (LUA / "workflow.lua").read_text()))
    assert set(sections()["Rest of a script"].column(0)) == set(re.findall(r"(\w+) = ", left))
    settled = set(re.findall(r"also\.(\w)\b", (LUA / "finish.lua").read_text()))
    assert set(sections()["On the way to a script"].column(0)) == settled


def test_links_within_the_page_lead_somewhere() -> None:
    targets = {title.lower().replace(" ", "-") for title in sections()}
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE.read_text())) <= targets


async def test_what_lies_in_redis_is_what_the_page_says(own_redis: Client) -> None:
    """Whatever jobs, workflows, schedules, limits and pauses leave there is named, with its type."""
    kit = Kit(own_redis, Registry(), "wired")
    kit.registry.bind(own_redis)

    @kit.registry.job(queue=kit.queue, limits=[ConcurrencyLimit(1), RateLimit("100/s")], max_tries=2)
    async def work(ctx: Context, value: int) -> int:
        ctx.progress(value, 3)
        await ctx.once(f"step {value}", once)
        if value == 2 and ctx.try_number == 1:
            raise Retry(delay=0.01)
        return value

    async def once() -> int:
        return 1

    await Scheduler(own_redis.schedules, kit.registry).create(
        make_record({"name": "later", "job": "work", "every": 3600.0, "args": {"value": 1}})
    )
    await own_redis.pause_queue("elsewhere")
    await kit.enqueue(work, {"value": 5}, debounce=3600)
    flow = await chain(group(work.si(1), work.si(2)), work.si(2)).enqueue()
    async with kit.worker():
        assert (await own_redis.wait_for_workflow(flow.id, 30)).state is WorkflowState.SUCCEEDED
        assert len(await nothing_else_lies_in(own_redis)) > 20


async def nothing_else_lies_in(client: Client) -> set[str]:
    """The keys that were found, by how they begin; each must have the type that the page says."""
    rows = sections()["Every key"].rows
    documented = {start_of(SPANS.findall(row[0])[0]): row[1] for row in rows}
    found = set()
    async for key in client.redis.scan_iter():
        name = key.decode()
        start = max((each for each in documented if name.startswith(each)), key=len, default="")
        kind = (await client.redis.type(key)).decode()
        assert kind in (documented.get(start), "none"), name  # none: it has just gone
        found.add(start)
    return found
