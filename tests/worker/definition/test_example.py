"""A first request, for those who have made none."""

import json
from typing import Literal

from pydantic import BaseModel

from worker import Registry
from worker.definition.example import example
from worker.system.ports import api_address


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


def test_address_is_one_that_can_be_opened() -> None:
    found = [api_address(host, 80) for host in ("127.0.0.1", "0.0.0.0", "::", "::1", "here.test")]
    assert found == [f"http://{host}:80" for host in ("127.0.0.1", "127.0.0.1", "[::1]", "[::1]", "here.test")]
