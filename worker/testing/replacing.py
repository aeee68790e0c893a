"""Resources for the length of a test: what jobs get instead of what `@resource` provides."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from worker.definition.registry import Registry
from worker.definition.registry import registry as default_registry
from worker.definition.resources import Provider

T = TypeVar("T")


@contextmanager
def replaced(kind: type[Any], stand_in: T, *, registry: Registry = default_registry) -> Iterator[T]:
    """In the block, jobs that ask for a `kind` get `stand_in`, which is neither opened nor closed. Workers that start
    in the block give it out, and only those.

    Raises:
        UnknownResource: nothing provides this type, so that no job could ask for it.
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
