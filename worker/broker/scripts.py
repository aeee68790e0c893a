"""Our Lua scripts: read from their files once, run by their digest, sent again when a server has forgotten them."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cached_property
from importlib import resources
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from worker.broker.versions import HEADER_REFUSED
from worker.core import keys
from worker.core.errors import ServerTooOld

Argument = str | bytes | int


# A server that is out of memory refuses new jobs before they write anything, and still lets jobs run and end, which
# frees memory.
ALWAYS = (
    *("claim", "finish", "give_back", "renew", "heartbeat", "lookup", "cancel", "once", "purge"),
    *("workflow_cancel", "workflow_go_on", "workflow_lookup", "workflow_state"),
    *("records_take", "recorded"),
)
HEADERS = defaultdict(lambda: "#!lua", dict.fromkeys(ALWAYS, "#!lua flags=allow-oom"))

# What a script needs between the prelude and its own lines.
PARTS: dict[str, tuple[str, ...]] = {
    "claim": ("limits", "suspects"),
    "enqueue": ("queueing",),
    "why": ("limits",),
    "fire": ("queueing",),
    "finish": ("limits", "queueing", "workflow"),
    "start": ("queueing", "slices", "workflow"),
    "workflow_retry": ("queueing", "slices", "workflow"),
    "workflow_go_on": ("queueing", "slices", "workflow"),
    "workflow_lookup": ("slices",),
    "workflow_cancel": ("queueing", "slices", "workflow", "cancelling"),
    "cancel": ("queueing", "workflow", "cancelling"),
    "purge": ("queueing", "workflow", "cancelling"),
}


class Script:
    """A script by its name. It is put together when it is first run: few processes run them all, and what only looks
    something up starts sooner."""

    def __init__(self, name: str) -> None:
        self.name = name

    @cached_property
    def source(self) -> bytes:
        """What Redis is sent."""
        return _put_together(self.name)

    @cached_property
    def sha(self) -> str:
        """The digest that Redis knows it by."""
        return hashlib.sha1(self.source, usedforsecurity=False).hexdigest()


def _literal(value: str | int) -> str:
    return str(value) if isinstance(value, int) else f"'{value}'"


# All are read at import: a process keeps those of its own release when another one is installed over it.
_FILES = {each.name: each.read_text() for each in (resources.files("worker.broker") / "lua").iterdir()}
_COMMENT = re.compile(r"^\s*--.*\n| -- .*$", re.MULTILINE)  # no string in the scripts may hold " -- "
_WORD = re.compile(r"\w+")
_FUNCTION = re.compile(r"^local function (\w+)\(.*\n(?:.*\n)*?end\n", re.MULTILINE)


def _without_unused(source: str) -> str:
    """The source without functions that nothing in it calls: Lua creates a closure for each of them at every run."""
    left = Counter(_WORD.findall(source))
    functions = list(_FUNCTION.finditer(source))
    unused: list[re.Match[str]] = []
    while found := [each for each in functions if left[each[1]] == 1]:
        unused += found
        functions = [each for each in functions if each not in found]
        for each in found:
            left.subtract(_WORD.findall(each[0]))
    for each in sorted(unused, key=re.Match.start, reverse=True):
        source = source[: each.start()] + source[each.end() :]
    return source


def _put_together(name: str) -> bytes:
    text = "\n".join(_FILES[f"{file}.lua"] for file in ("prelude", *PARTS.get(name, ()), name))
    body = _without_unused(_COMMENT.sub("", text))
    words = set(re.findall(r"\b[A-Z_]+\b", body))
    constants = "".join(
        f"local {key} = {_literal(value)}\n" for key, value in keys.LUA_CONSTANTS.items() if key in words
    )
    return "\n".join((HEADERS[name], constants, body)).encode()


ENQUEUE = Script("enqueue")
CLAIM = Script("claim")
FINISH = Script("finish")
GIVE_BACK = Script("give_back")
RENEW = Script("renew")
CANCEL = Script("cancel")
ONCE = Script("once")
PAUSE = Script("pause")
PURGE = Script("purge")
QUEUE_STATS = Script("queues")
LOOKUP = Script("lookup")
WHY = Script("why")
NAMES = Script("names")
HEARTBEAT = Script("heartbeat")
WORKERS = Script("workers")
START = Script("start")
WORKFLOW_LOOKUP = Script("workflow_lookup")
WORKFLOW_STATE = Script("workflow_state")
WORKFLOW_CANCEL = Script("workflow_cancel")
WORKFLOW_RETRY = Script("workflow_retry")
WORKFLOW_GO_ON = Script("workflow_go_on")
FIRE = Script("fire")
SCHEDULE = Script("schedule")
SCHEDULES = Script("schedules")
RECORDS_TAKE = Script("records_take")
RECORDED = Script("recorded")


async def run(redis: Redis, script: Script, key_names: Sequence[str] = (), arguments: Sequence[Argument] = ()) -> Any:
    """Run a script, loading it first where the server does not know it.

    Raises:
        ServerTooOld: it cannot run any.
    """
    tail = (len(key_names), *key_names, *arguments)
    try:
        return await redis.execute_command("EVALSHA", script.sha, *tail)
    except NoScriptError:
        return await load_and_run(redis, script, tail)


async def load_and_run(redis: Redis, script: Script, tail: Sequence[Argument]) -> Any:
    """Run a script that the server does not know. `tail`: the number of its keys, these, its arguments.

    Raises:
        ServerTooOld: it cannot run any.
    """
    try:
        return await redis.execute_command("EVAL", script.source, *tail)
    except ResponseError as error:
        if HEADER_REFUSED not in str(error):
            raise
        raise ServerTooOld(await _version(redis)) from error


async def _version(redis: Redis) -> str:
    try:
        return str((await redis.info("server")).get("redis_version", "?"))
    except ResponseError:  # INFO may be forbidden
        return "?"
