"""Our Lua scripts: read from their files once, run by their digest, loaded again when a server forgot them."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from worker.broker import keys

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


@dataclass(frozen=True, slots=True)
class Script:
    """A script's whole source and the digest that Redis knows it by."""

    name: str
    source: bytes
    sha: str


def _literal(value: str | int) -> str:
    return str(value) if isinstance(value, int) else f"'{value}'"


_COMMENT = re.compile(r"^\s*--.*\n| -- .*$", re.MULTILINE)
_WORD = re.compile(r"\w+")
_FUNCTION = re.compile(r"^local function (\w+)\(.*\n(?:.*\n)*?end\n", re.MULTILINE)


def _without_unused(source: str) -> str:
    """The source without the functions that nothing in it calls: Redis builds all of them anew at every run."""
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


def _read(name: str) -> Script:
    folder = resources.files("worker.broker") / "lua"
    files = ("prelude", *PARTS.get(name, ()), name)
    text = "\n".join((folder / f"{file}.lua").read_text() for file in files)
    body = _without_unused(_COMMENT.sub("", text))
    words = set(re.findall(r"\b[A-Z_]+\b", body))
    constants = "".join(
        f"local {key} = {_literal(value)}\n" for key, value in keys.LUA_CONSTANTS.items() if key in words
    )
    source = "\n".join((HEADERS[name], constants, body)).encode()
    return Script(name, source, hashlib.sha1(source, usedforsecurity=False).hexdigest())


ENQUEUE = _read("enqueue")
CLAIM = _read("claim")
FINISH = _read("finish")
GIVE_BACK = _read("give_back")
RENEW = _read("renew")
CANCEL = _read("cancel")
ONCE = _read("once")
PAUSE = _read("pause")
PURGE = _read("purge")
QUEUE_STATS = _read("queues")
LOOKUP = _read("lookup")
WHY = _read("why")
HEARTBEAT = _read("heartbeat")
WORKERS = _read("workers")
START = _read("start")
WORKFLOW_LOOKUP = _read("workflow_lookup")
WORKFLOW_STATE = _read("workflow_state")
WORKFLOW_CANCEL = _read("workflow_cancel")
WORKFLOW_RETRY = _read("workflow_retry")
WORKFLOW_GO_ON = _read("workflow_go_on")
FIRE = _read("fire")
SCHEDULE = _read("schedule")
SCHEDULES = _read("schedules")
RECORDS_TAKE = _read("records_take")
RECORDED = _read("recorded")


async def run(redis: Redis, script: Script, key_names: Sequence[str] = (), arguments: Sequence[Argument] = ()) -> Any:
    """Run a script, loading it first where the server does not know it."""
    try:
        return await redis.execute_command("EVALSHA", script.sha, len(key_names), *key_names, *arguments)
    except NoScriptError:
        return await redis.execute_command("EVAL", script.source, len(key_names), *key_names, *arguments)


@dataclass(frozen=True, slots=True)
class Request:
    """A script with what it is to be given."""

    script: Script
    key_names: Sequence[str]
    arguments: Sequence[Argument]


def command(request: Request) -> Sequence[Argument]:
    """A request as a command for a server that knows the script."""
    return ("EVALSHA", request.script.sha, len(request.key_names), *request.key_names, *request.arguments)


async def run_together(redis: Redis, requests: Sequence[Request]) -> list[Any]:
    """Run scripts one after the other in a single round trip; each is atomic by itself.

    Returns per request its answer, or the error that it came to, once those that a server forgot were sent again.
    """
    if len(requests) == 1:
        only = requests[0]
        return [await run(redis, only.script, only.key_names, only.arguments)]
    pipe = redis.pipeline(transaction=False)
    for request in requests:
        pipe.execute_command(*command(request))
    answers = await pipe.execute(raise_on_error=False)
    for place, (request, answer) in enumerate(zip(requests, answers, strict=True)):
        if isinstance(answer, NoScriptError):
            answers[place] = await run(redis, request.script, request.key_names, request.arguments)
    return list(answers)
