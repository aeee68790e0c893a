"""Values that break things, from a seeded source."""

import json
import pickle
import random
import string
from typing import Any

NUMBERS: tuple[float, ...] = (
    0,
    -0.0,
    -1,
    1,
    1e-9,
    0.0004,
    0.001,
    0.5,
    2**31,
    2**53,
    2**53 + 1,
    2**63 - 1,
    2**63,
    2**64,
    -(2**63) - 1,
    10**40,
    10**400,
    1e15,
    1e18,
    1e300,
    -1e300,
    5e-324,
    float("nan"),
    float("inf"),
    float("-inf"),
)
TEXTS = (
    "",
    " ",
    "x",
    "default",
    "health-check",
    "nul\x00byte",
    "line\nbreak\ttab",
    "\ud800",
    "\udfff\ud800 both",
    "\u202eright to left",
    "Zoë Übung 日本語 🦜",
    "%s %d {} {0} ${x}",
    "'; DROP TABLE embarq_jobs; --",
    '"quoted" \\ back',
    "../../etc/passwd",
    "9999-12-31T23:59:59.999999Z",
    "0001-01-01T00:00:00+23:59",
    "2026-02-30T25:00:00Z",
    "1970-01-01T00:00:00Z",
    "-1",
    "1e309",
    "NaN",
    "9223372036854775808",
    "null",
    "[[[[",
    '{"a":',
    "~",
    "schedule:s1:1700000000000",
    "order-5",
    "r:0:0:x",
    "r:1:1:x",
    "c:0:0:x",
    "c:99999999999999999999:1:x",
    "*",
    "a" * 100,
    "a" * 201,
    "n" * 9000,
)
ODD_BYTES = (
    b"",
    b"\xff\xfe\x00",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\x80\x04\x95",
    b"{" * 5000,
    b"[" * 5000,
    b"[" * 400 + b"]" * 400,
    b'{"f":',
    b"null",
    b"true",
    b"5",
    b'"text"',
    b"[]",
    b"{}",
    pickle.dumps({"f": "echo", "a": (), "k": {"value": 1}, "et": 1, "t": None}),
)


class Nasty:
    """Draws what is wrong from one source of chance, so that a case can be made again."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def number(self) -> float:
        """A number that some arithmetic does not like."""
        if self.chance.random() < 0.2:
            return self.chance.choice((1, -1)) * self.chance.getrandbits(self.chance.choice((8, 31, 53, 64, 80)))
        return self.chance.choice(NUMBERS)

    def text(self) -> str:
        """Words that some parser does not like."""
        if self.chance.random() < 0.2:
            return "".join(self.chance.choices(string.printable + "\x00\u2028é\ud801", k=self.chance.randrange(40)))
        return self.chance.choice(TEXTS)

    def value(self, depth: int = 0) -> Any:
        """Anything that JSON can say, and a little more."""
        kind = self.chance.randrange(10 if depth < 3 else 7)
        if kind < 3:
            return self.number()
        if kind < 6:
            return self.text()
        if kind == 6:
            return self.chance.choice((None, True, False))
        if kind == 7:
            return [self.value(depth + 1) for _ in range(self.chance.randrange(4))]
        if kind == 8:
            return {self.text(): self.value(depth + 1) for _ in range(self.chance.randrange(4))}
        return nested(self.chance.choice((2, 120, 900)))

    def bytes(self) -> bytes:
        """What may lie under a key."""
        kind = self.chance.randrange(3)
        if kind == 0:
            return self.chance.choice(ODD_BYTES)
        if kind == 1:
            return self.chance.randbytes(self.chance.randrange(30))
        return encode(self.value())

    def spoil(self, record: Any) -> Any:
        """The record with one place in it changed, left out, or added to."""
        if isinstance(record, dict) and record and self.chance.random() < 0.9:
            key = self.chance.choice(list(record))
            change = self.chance.randrange(6)
            if change == 0:
                return {name: value for name, value in record.items() if name != key}
            if change == 1:
                return {**record, self.text(): self.value()}
            return {**record, key: self.spoil(record[key])}
        if isinstance(record, list) and record and self.chance.random() < 0.7:
            place = self.chance.randrange(len(record))
            return [*record[:place], self.spoil(record[place]), *record[place + 1 :]]
        return self.value()

    def one_in(self, count: int) -> bool:
        """True once in so many times."""
        return self.chance.randrange(count) == 0


def nested(depth: int) -> Any:
    """A list in a list in a list."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def encode(value: Any) -> bytes:
    """JSON as careless programs write it: with NaN, endless numbers and lone surrogates."""
    return json.dumps(value, ensure_ascii=True).encode()


def as_bytes(text: str) -> bytes:
    """Text for Redis, lone surrogates and all."""
    return text.encode("utf-8", "surrogatepass")
