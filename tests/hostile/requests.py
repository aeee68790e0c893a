"""Requests that nobody should send: every route of the application, with bodies that are nearly right."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from starlette.routing import BaseRoute, Mount, Route

from tests.hostile.innocents import QUEUE
from tests.hostile.values import Nasty, as_bytes, encode
from worker.core.options import EnqueueOptions
from worker.http.schemas import BASE

HOSTILE_QUEUE = "hostile"
JOBS = ("echo", "plain", "rated", "gated", "added", "flaky", "none such")
OPTIONS: dict[str, tuple[Any, ...]] = {
    "id": ("h1", "h2", "a:b", "=", "x" * 200, "x" * 201, "schedule:s1:5", "order-5", "h~1"),
    "queue": (HOSTILE_QUEUE, "other", "q" * 100, "q" * 101, "no/such", "default!high", "health-check"),
    "priority": ("high", "low", "normal", "urgent", 5),
    "delay": (0, 1e-9, 0.001, 1e-300, 315360000, 315360001, -0.0),
    "run_at": ("9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z", "2026-01-01T00:00:00+14:00", "1969-01-01T00:00Z"),
    "expires_in": (1e-9, 1e-4, 0.001, 5, 315360000),
    "soft_timeout": (1e-9, 0.0009, 1, 31536000),
    "timeout": (1e-9, 0.0009, 1, 31536000),
    "max_tries": (1, 0, 1000, 1001, 1.0, True),
    "result_ttl": (0, 1e-9, None, 0.0001, 315360000),
    "tags": ([], ["x"], ["\x00"], ["\ud800"], ["t" * 100] * 20, ["t"] * 21),
    "unique_for": (1e-9, 1e-4, 0.0004, 0.001, 1, 31536000),
    "debounce": (1e-9, 1e-4, 0.001, 0.5, 31536000),
    "throttle": (1e-9, 1e-4, 0.001, 0.5, 31536000),
    "unique_key": ("k1", "k2", "a b", "\x00", "\ud800", "%", "k:1"),
    "durable": (True, False),
    "on_success": ({"job": "echo"}, {"job": "echo", "options": {"queue": HOSTILE_QUEUE}}, {"chain": []}),
    "on_error": ({"job": "echo", "options": {"queue": HOSTILE_QUEUE}}, {"job": "none such"}),
}
assert OPTIONS.keys() == EnqueueOptions.__annotations__.keys(), "an option that nobody throws at anything"


@dataclass(frozen=True, slots=True)
class HttpCase:
    """One request."""

    method: str
    path: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """As they are sent."""
        return [(name.encode(), value.encode("latin1")) for name, value in self.headers]

    def __str__(self) -> str:
        return f"{self.method} {self.path} {dict(self.headers)} {self.body[:2000]!r}"


def every_route(routes: Sequence[BaseRoute], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Method and path of each route."""
    for route in routes:
        if isinstance(route, Mount):
            yield from every_route(route.routes, prefix + route.path)
        elif isinstance(route, Route):
            for method in sorted((route.methods or set()) - {"HEAD"}):
                yield method, prefix + route.path


class Requests:
    """Makes cases for the routes of an application."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._routes = sorted(every_route(routes))
        self._posts = [f"{BASE}/jobs", f"{BASE}/jobs/bulk", f"{BASE}/workflows", f"{BASE}/schedules"]

    def case(self, nasty: Nasty) -> HttpCase:
        """A request to any route; to those that queue something, more often."""
        method, route = nasty.chance.choice(self._routes)
        if nasty.one_in(2):
            method, route = "POST", nasty.chance.choice(self._posts)
        path = self._path(nasty, route)
        if nasty.one_in(3) or method == "GET":
            path += "?" + urlencode(self._query(nasty), errors="surrogatepass")
        body = self._body(nasty, route) if method == "POST" else b""
        return HttpCase(method, path, body, tuple(self._headers(nasty)))

    def _path(self, nasty: Nasty, route: str) -> str:
        name = nasty.chance.choice((HOSTILE_QUEUE, "s1", "s2", "h1", "h2", "h3", "sms", "mail", "1", nasty.text()))
        number = nasty.chance.choice(("1", "2147483648", "9223372036854775808", "1" * 400, nasty.text()))
        for field, value in (("{id}", name), ("{name}", name), ("{service}", name), ("{id:int}", number)):
            route = route.replace(field, quote(as_bytes(value), safe="") or "x")
        return route

    def _query(self, nasty: Nasty) -> dict[str, str]:
        names = (
            "wait",
            "state",
            "job",
            "queue",
            "tag",
            "text",
            "since",
            "until",
            "cursor",
            "limit",
            "signature",
            "odd",
        )
        given = {name: self._parameter(nasty, name) for name in nasty.chance.sample(names, nasty.chance.randrange(4))}
        if given.get("wait", "").strip("0123456789.") == "":
            given["wait"] = nasty.chance.choice(("0", "0.01", "-1", "61", "nan", "inf", "1e-9", "0x1"))
        return given

    def _parameter(self, nasty: Nasty, name: str) -> str:
        likely = {"state": "succeeded", "limit": "5", "since": "2026-01-01T00:00:00Z", "job": "plain", "until": "1700"}
        if name in likely and nasty.one_in(3):
            return likely[name]
        return nasty.text() if nasty.one_in(2) else str(nasty.number())

    def _headers(self, nasty: Nasty) -> Iterator[tuple[str, str]]:
        if nasty.one_in(8):
            yield "Idempotency-Key", nasty.chance.choice(("key", "", "k" * 9000, "\xff"))
        if nasty.one_in(20):
            yield "X-Request-ID", nasty.chance.choice(("\xff", "i" * 200, "good-id"))
        if nasty.one_in(30):
            yield "Content-Type", nasty.chance.choice(("text/plain", "application/json; charset=utf-16", ""))

    def _body(self, nasty: Nasty, route: str) -> bytes:
        if nasty.one_in(15):
            return nasty.bytes()
        sound = self._sound(nasty, route.removeprefix(BASE))
        if nasty.one_in(2):
            sound = nasty.spoil(sound)
        return encode(sound)

    def _sound(self, nasty: Nasty, route: str) -> Any:
        """A body as the route wants it, but for its options."""
        bodies: dict[str, Callable[[], Any]] = {
            "/jobs": lambda: self._step(nasty),
            "/jobs/bulk": lambda: {"jobs": [self._step(nasty) for _ in range(nasty.chance.randrange(5))]},
            "/workflows": lambda: self._flow(nasty) | {"options": self._flow_options(nasty)},
            "/schedules": lambda: self._schedule(nasty),
        }
        make: Callable[[], Any] = bodies.get(route, lambda: self._of_platform(nasty))
        return make()

    def _step(self, nasty: Nasty) -> dict[str, Any]:
        job = nasty.chance.choice(JOBS)
        field = {"added": "values", "flaky": "fail_times"}.get(job, "value")
        value = nasty.value() if nasty.one_in(2) else nasty.chance.choice((1, 2, [1, 2]))
        return {"job": job, "args": {field: value}, "options": self.options(nasty)}

    def options(self, nasty: Nasty) -> dict[str, Any]:
        """Some options, at or over the edge of what is allowed; never the queue of others."""
        names = nasty.chance.sample(list(OPTIONS), nasty.chance.randrange(4))
        chosen = {name: nasty.value() if nasty.one_in(6) else nasty.chance.choice(OPTIONS[name]) for name in names}
        if nasty.one_in(3):
            chosen |= {"queue": HOSTILE_QUEUE}
        return chosen if chosen.get("queue") != QUEUE else {}

    def _flow(self, nasty: Nasty, depth: int = 0) -> dict[str, Any]:
        kind = nasty.chance.randrange(4) if depth < 3 else 0
        parts = [self._flow(nasty, depth + 1) for _ in range(nasty.chance.randrange(4))] if kind else []
        if kind == 1:
            return {"chain": parts}
        if kind == 2:
            return {"group": parts}
        if kind == 3:
            return {"chord": {"group": parts, "callback": self._step(nasty)}}
        return {**self._step(nasty), "immutable": nasty.one_in(2)}

    def _flow_options(self, nasty: Nasty) -> dict[str, Any]:
        return {
            name: nasty.value() if nasty.one_in(4) else value
            for name, value in (
                ("id", nasty.chance.choice(("h1", "h2", "h3"))),
                ("on_failure", "continue"),
                ("keep", 60),
                ("on_success", {"job": "echo"}),
            )
            if nasty.one_in(4)
        }

    def _schedule(self, nasty: Nasty) -> dict[str, Any]:
        when = nasty.chance.choice(
            (
                {"every": nasty.chance.choice((1e-9, 0.001, 1, 60, 1e15, nasty.number()))},
                {
                    "cron": nasty.chance.choice(
                        ("* * * * *", "0 0 30 2 *", "*/0 * * * *", "@daily", "0 " * 5000, nasty.text())
                    )
                },
            )
        )
        name = nasty.chance.choice(("s1", "s2", "s3", nasty.text()))
        more = {
            "tz": nasty.chance.choice(("UTC", "Europe/Berlin", "../../etc", nasty.text())),
            "jitter": nasty.number(),
        }
        asked = {field: value for field, value in more.items() if nasty.one_in(4)}
        return {"name": name, "job": "echo", "args": {"value": 1}, "options": self.options(nasty), **when, **asked}

    def _of_platform(self, nasty: Nasty) -> dict[str, Any]:
        likely = {
            "name": "Ada",
            "email": f"h{nasty.chance.randrange(50)}@example.com",
            "student_id": 1,
            "course_id": 2,
            "user_id": 1,
            "lines": [{"product_id": 1, "quantity": 1}],
            "number": "+15550000001",
            "message": "Hello",
            "statuses": [503],
            "to": "+15550000001",
        }
        names = nasty.chance.sample(list(likely), nasty.chance.randrange(1, 5))
        return {name: nasty.value() if nasty.one_in(2) else likely[name] for name in names}
