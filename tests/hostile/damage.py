"""Records, types and ids in Redis that no client or worker of ours would write."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.hostile.innocents import QUEUE
from tests.hostile.requests import HOSTILE_QUEUE
from tests.hostile.values import Nasty, as_bytes, encode
from worker.core import keys

Argument = str | bytes | int | float
Command = tuple[Argument, ...]

WRONG_QUEUE = "wrong"  # served by the worker of the innocents, and not a sorted set
WORKER = "{worker}"  # stands for the id of a live worker
QUEUE_KEYS = tuple(keys.queue_key(name) for name in (HOSTILE_QUEUE, QUEUE, "default", "unserved"))
NAMES = sorted(
    value for value in keys.LUA_CONSTANTS.values() if isinstance(value, str) and value.startswith(("arq:", "embarq:"))
)
PREFIXES = tuple(
    name for name in NAMES if name.endswith(":") and name != keys.TOKEN
)  # a job's, a workflow's, a limit's
OF_A_JOB = (keys.JOB, keys.LEASE, keys.TRIES, keys.RESULT, keys.RUN, keys.PROGRESS, keys.HISTORY)
OF_A_WORKFLOW = (keys.WORKFLOW, keys.NODES, keys.CALLS, keys.WAITS, keys.ENDS, keys.VALUES, keys.CAUSES, keys.AGAIN)
FLOWS = ("h1", "h2", "h3")
LIMITS = ("r:500:1000:rated", "c:2:0:gated")
SHARED = (
    *(name for name in NAMES if not name.endswith(":")),
    keys.WAKE + keys.queue_key(QUEUE),
    keys.WAKE + keys.queue_key(HOSTILE_QUEUE),
    keys.CONTROL + WORKER,
    keys.WORKER + WORKER,
    *(f"{keys.CLAIMED}{WORKER}:{number}" for number in range(1, 9)),
    keys.queue_key(WRONG_QUEUE),
    keys.queue_key(HOSTILE_QUEUE),
    *(kind + limit for kind in (keys.RATE, keys.HOLDERS) for limit in LIMITS),
)


@dataclass(frozen=True, slots=True)
class DamageCase:
    """Commands that damage something."""

    label: str
    commands: tuple[Command, ...]

    def __str__(self) -> str:
        return f"redis {self.label}: {str(self.commands)[:2000]}"


class Damage:
    """Makes cases."""

    def __init__(self) -> None:
        self._kinds: dict[str, Callable[[Nasty], list[Command]]] = {
            "job": self._job,
            "record": self._record,
            "workflow": self._record_of_workflow,
            "parked": self._parked,
            "limits": self._limits,
            "schedules": self._schedules,
            "workers": self._workers,
            "streams": self._streams,
            "sets": self._sets,
            "unique": self._unique,
        }
        self._often = ["job"] * 6 + ["record"] * 3 + ["workflow"] * 2 + list(self._kinds)

    def case(self, nasty: Nasty) -> DamageCase:
        """Damage of some kind."""
        label = nasty.chance.choice(self._often)
        return DamageCase(label, tuple(self._kinds[label](nasty)))

    def of_shared(self, nasty: Nasty, number: int) -> DamageCase:
        """A key that everybody uses, of another type: each in its turn."""
        return DamageCase("shared key", tuple(self._damaged(nasty, SHARED[number % len(SHARED)].encode())))

    def _job(self, nasty: Nasty) -> list[Command]:
        """A due job that is not as it should be, in a queue that is served."""
        job_id, queue = self._id(nasty), nasty.chance.choice(QUEUE_KEYS)
        commands: list[Command] = []
        if not nasty.one_in(8):
            commands.append(("SET", keys.JOB.encode() + job_id, self._payload(nasty)))
        if nasty.one_in(3):
            commands += self._damaged(nasty, nasty.chance.choice(OF_A_JOB).encode() + job_id)
        if nasty.one_in(5):
            commands.append(("SET", keys.RUN.encode() + job_id, self._run(nasty)))
        if nasty.one_in(5):
            tries = nasty.chance.choice((b"1", b"3", b"abc", b"1e400", b"9223372036854775807", b"-5", b"nan", b"1.5"))
            commands.append(("SET", keys.TRIES.encode() + job_id, tries))
        if nasty.one_in(8):
            holder = nasty.chance.choice((b"1", b"embarq:", b"embarq:gone:1", b"embarq:a b\xff:1", nasty.bytes()))
            commands.append(("SET", keys.LEASE.encode() + job_id, holder, *nasty.chance.choice(((), ("PX", 300)))))
        if nasty.one_in(6):
            commands.append(self._to(nasty, "ZADD", keys.ABORT, job_id))
        commands.append(self._to(nasty, "ZADD", queue, job_id))
        if nasty.one_in(2):
            commands += [("SADD", keys.QUEUES, queue), ("RPUSH", keys.WAKE + queue, "1")]
        return commands

    def _record(self, nasty: Nasty) -> list[Command]:
        return self._damaged(nasty, nasty.chance.choice(PREFIXES).encode() + self._id(nasty))

    def _record_of_workflow(self, nasty: Nasty) -> list[Command]:
        key = nasty.chance.choice(OF_A_WORKFLOW).encode() + as_bytes(nasty.chance.choice(FLOWS))
        if nasty.one_in(2):
            return self._damaged(nasty, key)
        field = nasty.chance.choice((b"state", b"last", b"0", b"1", b"left", b"policy", nasty.bytes()))
        return [("HSET", key, field, nasty.chance.choice((b"running", b"failed", b"0", nasty.bytes())))]

    def _parked(self, nasty: Nasty) -> list[Command]:
        limit = nasty.chance.choice(("r:1:1:h", "c:1:0:h", nasty.text()))
        member = nasty.chance.choice((b"h1\tarq:queue:hostile", b"h2", b"\t", b"\xff\tarq:queue", nasty.bytes()))
        return [
            self._to(nasty, "ZADD", as_bytes(keys.PARKED + limit), member),
            self._to(nasty, "ZADD", keys.LIMITS, as_bytes(limit)),
        ]

    def _limits(self, nasty: Nasty) -> list[Command]:
        kind, limit = nasty.chance.choice((keys.RATE, keys.HOLDERS, keys.PARKED)), as_bytes(nasty.text())
        return [*self._damaged(nasty, kind.encode() + limit), self._to(nasty, "ZADD", keys.LIMITS, limit)]

    def _schedules(self, nasty: Nasty) -> list[Command]:
        name = as_bytes(nasty.chance.choice(("s1", "s2", "s9", nasty.text())))
        record = {"name": "s1", "job": "echo", "every": 1.0, "args": {"value": 1}, "options": {"queue": HOSTILE_QUEUE}}
        return [
            ("HSET", keys.SCHEDULES, name, encode(nasty.spoil(record)) if nasty.one_in(2) else nasty.bytes()),
            ("HSET", keys.SCHEDULES_LAST, name, nasty.bytes()),
            self._to(nasty, "ZADD", keys.SCHEDULES_DUE, name),
        ][: nasty.chance.randrange(1, 4)]

    def _workers(self, nasty: Nasty) -> list[Command]:
        worker = nasty.chance.choice((b"w1", WORKER.encode(), nasty.bytes()))
        message = nasty.chance.choice((b"abort ", b"abort h1", b"\xff", b"abort \xff", nasty.bytes()))
        record = {"id": "w1", "host": "h", "pid": 1, "queues": ["q"], "concurrency": 1, "running": 0, "started_at": 1.0}
        choices: tuple[list[Command], ...] = (
            [("RPUSH", keys.CONTROL.encode() + worker, message)],
            self._damaged(nasty, keys.WORKER.encode() + worker),
            [self._to(nasty, "ZADD", keys.WORKERS, worker), ("SET", keys.WORKER.encode() + worker, nasty.bytes())],
            [
                self._to(nasty, "ZADD", keys.WORKERS, b"w1"),
                ("SET", keys.WORKER + "w1", encode(nasty.spoil({**record, "jobs": ["echo"], "rate": 0.0}))),
            ],
        )
        return nasty.chance.choice(choices)

    def _streams(self, nasty: Nasty) -> list[Command]:
        stream = nasty.chance.choice((keys.EVENTS, keys.RECORDS))
        return [("XADD", stream, "*", nasty.chance.choice((b"e", b"x", b"\xff")), self._entry(nasty))]

    def _entry(self, nasty: Nasty) -> bytes:
        result = {"t": 1, "f": "echo", "a": [], "k": {}, "et": 1, "s": True, "r": 1, "st": 1, "ft": 2, "id": "h1"}
        record = nasty.spoil({"r": {**result, "state": "succeeded", "q": "arq:queue:hostile"}, "h": []})
        return encode([record]) if nasty.one_in(2) else nasty.bytes()

    def _sets(self, nasty: Nasty) -> list[Command]:
        name = nasty.chance.choice((b"arq:queue:x!high!low", b"arq:queue:", b"\xff\xfe", b"arq:job:h1", nasty.bytes()))
        choices: tuple[list[Command], ...] = (
            [("SADD", keys.QUEUES, name)],
            [("SADD", keys.PAUSED, name)],
            [("SADD", keys.SCHEDULES_PAUSED, name)],
            [self._to(nasty, "ZADD", keys.ABORT, name)],
        )
        return nasty.chance.choice(choices)

    def _unique(self, nasty: Nasty) -> list[Command]:
        key = f"{keys.UNIQUE}{nasty.chance.choice(('echo', 'plain'))}:{nasty.chance.choice(('k1', 'k2'))}"
        known = nasty.chance.choice((b"h1 5", b"h1 99999999999999999999", b"x y z", b"\xff 1", nasty.bytes()))
        return [("SET", key, known)] if nasty.one_in(2) else self._damaged(nasty, key.encode())

    def _damaged(self, nasty: Nasty, key: bytes) -> list[Command]:
        writes: tuple[Command, ...] = (
            ("SET", key, nasty.bytes()),
            ("RPUSH", key, nasty.bytes(), nasty.bytes()),
            ("SADD", key, nasty.bytes()),
            ("HSET", key, nasty.bytes(), nasty.bytes()),
            ("XADD", key, "*", nasty.bytes(), nasty.bytes()),
            self._to(nasty, "ZADD", key, nasty.bytes()),
        )
        return [("DEL", key), nasty.chance.choice(writes)]

    def _to(self, nasty: Nasty, command: str, key: str | bytes, member: bytes) -> Command:
        now = int(time.time() * 1000)
        score = nasty.chance.choice(
            (now, now - 10**6, 0, -1, "-inf", "+inf", 9e15, 2**53 + 1, 2**63, now + 500, 0.5, 1e-300)
        )
        return command, key, score, member

    def _id(self, nasty: Nasty) -> bytes:
        if nasty.one_in(3):
            return nasty.chance.choice((nasty.bytes(), as_bytes(nasty.text()), b"i" * 9000, b"\xff\xfe\x00", b"a b"))
        return f"h{nasty.chance.randrange(60)}".encode()

    def _run(self, nasty: Nasty) -> bytes:
        return nasty.chance.choice(
            (
                b"running w 1 1",
                b"running w 99999999999999999999999 99999999999999999999999",
                b"running w\xff 1 99",
                b"retry embarq:x:1 0 0",
                b"running",
                nasty.bytes(),
            )
        )

    def _payload(self, nasty: Nasty) -> bytes:
        if nasty.one_in(5):
            return nasty.bytes()
        job = nasty.chance.choice(("echo", "plain", "gated", "rated", "added", "none such", nasty.text()))
        payload: dict[str, Any] = {
            "t": None,
            "f": job,
            "a": [],
            "k": {"value": 1},
            "et": nasty.chance.choice((1, -1, 0, 2**63, 10**15)),
            "o": self._options(nasty),
            "n": "0" * 32,
            "du": nasty.chance.choice((1, -1, 10**16)),
        }
        return encode(nasty.spoil(payload) if nasty.one_in(2) else payload)

    def _options(self, nasty: Nasty) -> dict[str, Any]:
        odd: dict[str, tuple[Any, ...]] = {
            "rt": (2**63 - 1, -1, -2, 0, 1, 2**53, 10**15),
            "lm": (
                ["x"],
                ["r:0:0:x"],
                ["c:1:0:h"],
                ["r:1:1000:h"],
                ["c:99999999999999999999:1:x"],
                [5],
                "x",
                [["c:1:0:h"]],
            ),
            "wf": (5, "h1", "h2", "", "none"),
            "nd": (0, -1, "x", 2**63 - 1),
            "in": (0, -1, 2**62),
            "ip": ("value", "none", ""),
            "h": (True, 1),
            "z": (7, "arq:queue:hostile", "arq:job:h1", "\x00", keys.QUEUES, keys.queue_key(QUEUE)),
            "to": (0, -1, 1, 2**63 - 1),
            "so": (0, -1, 2**63 - 1),
            "mt": (0, -1, 2**62),
            "x": (0, -1, 1, 2**63 - 1),
            "tg": (["\x00"], ["t" * 9000], [1], "x"),
        }
        names = nasty.chance.sample(list(odd), nasty.chance.randrange(4))
        if "wf" in names:
            names += nasty.chance.choice(([], ["nd"], ["nd", "in", "ip"], ["nd", "ip"]))
        return {name: nasty.value() if nasty.one_in(6) else nasty.chance.choice(odd[name]) for name in names}
