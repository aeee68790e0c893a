"""Stand-ins for resources during a test: what jobs get instead of what `@resource` provides."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from worker.definition.registry import Registry
from worker.definition.registry import registry as default_registry
from worker.definition.resources import Provider

T = TypeVar("T")


@contextmanager
def replaced(kind: type[Any], stand_in: T, *, registry: Registry = default_registry) -> Iterator[T]:
    """In the block, `stand_in` is injected into jobs for a `kind`; it is neither opened nor closed. Only workers that
    start in the block use it.

    Raises:
        UnknownResource: nothing provides this type, so that no job could use it.
    """
    before = registry.replace_provider(kind, _giving(kind, stand_in))
    try:
        yield stand_in
    finally:
        registry.replace_provider(kind, before)


def _giving(kind: type[Any], stand_in: object) -> Provider:
    async def give() -> AsyncIterator[object]:
        yield stand_in

    give.__annotations__["return"] = AsyncIterator[kind]  # type: ignore[valid-type]  # made at run time
    return give
