"""What a newcomer reads."""

import json
import shlex
from typing import Literal

from pydantic import BaseModel

from worker import Registry
from worker.dev.banner import address, banner, example, trial


class Order(BaseModel):
    number: int


def test_example_is_the_first_job_whose_arguments_are_simple(registry: Registry) -> None:
    @registry.job()
    async def buy(order: Order) -> None: ...

    @registry.job()
    async def greet(
        name: str, times: int, how: Literal["loud", "low"], tags: list[str], weight: float = 1.0
    ) -> None: ...

    @registry.job()
    async def later() -> None: ...

    body = json.loads(example(registry))
    assert body == {"job": "greet", "args": {"name": "text", "times": 1, "how": "loud", "tags": []}}
    registry.get("greet").call_with(body["args"], {})  # it is taken


def test_echo_comes_first(registry: Registry) -> None:
    @registry.job()
    async def other() -> None: ...

    @registry.job()
    async def echo(value: object) -> None: ...

    assert json.loads(example(registry)) == {"job": "echo", "args": {"value": 1}}


def test_no_job_is_no_example(registry: Registry) -> None:
    assert example(registry) == b""


def test_line_to_try_has_the_key_but_for_one_that_the_shell_knows() -> None:
    body = b'{"job": "it\'s"}'
    plain = shlex.split(trial("http://here", body, None, is_exported=False))
    assert plain == ["curl", "-i", "http://here/api/v1/jobs", "-d", body.decode()]
    shown = shlex.split(trial("http://here", body, 'a "$key"', is_exported=False))
    assert 'Authorization: Bearer a "$key"' in shown
    assert '-H "Authorization: Bearer $EMBARQ_API_KEY" ' in trial("http://here", body, "own", is_exported=True)


def test_address_is_one_that_can_be_opened() -> None:
    found = [address(host, 80) for host in ("127.0.0.1", "0.0.0.0", "::", "::1", "here.test")]
    assert found == [f"http://{host}:80" for host in ("127.0.0.1", "127.0.0.1", "[::1]", "[::1]", "here.test")]


def test_banner_says_how_to_go_on() -> None:
    plain = "\n".join(banner("http://here", 2.34, "curl x", reload=False, in_colour=False))
    assert "\x1b" not in plain
    assert all(words in plain for words in ("after 2.3 s", "http://here/", "Try:  curl x", "Ctrl-C stops everything."))
    assert "A change of the code" in "\n".join(banner("http://here", 1.0, "", reload=True, in_colour=True))
