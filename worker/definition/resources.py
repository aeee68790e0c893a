"""What is injected into jobs, found by type: opened once per worker (HTTP clients, pools), or once per try (a database
session).

A provider is an async generator function. One that takes the context is called for each try.
"""

import inspect
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, get_args, get_type_hints

from worker.core.errors import DefinitionError

Provider = Callable[..., AsyncIterator[Any]]

# The default of an injected parameter, so that type checkers let callers leave it out.
injected: Any = object()


def provided_type(provider: Provider) -> type:
    """The type that an async generator function yields, from its return annotation.

    Raises:
        DefinitionError: the annotation is not `AsyncIterator[SomeClass]`.
    """
    annotation = get_args(get_type_hints(provider).get("return"))
    if len(annotation) != 1 or not isinstance(annotation[0], type):
        raise DefinitionError(f"resource {provider.__name__!r} must be annotated -> AsyncIterator[SomeClass]")
    return annotation[0]


def is_per_try(provider: Provider) -> bool:
    """Whether the provider is called for each try: it takes the context."""
    return bool(inspect.signature(provider).parameters)


def is_of_database(kind: type) -> bool:
    """Whether a resource of this type needs a database: our own, or anything of SQLAlchemy's, such as a session."""
    return any(each.__module__.startswith(("worker.database", "sqlalchemy.")) for each in kind.__mro__)


@asynccontextmanager
async def open_resources(providers: Iterable[Provider]) -> AsyncIterator[dict[type, object]]:
    """Open all providers in order; on leaving, close them in the opposite order."""
    async with AsyncExitStack() as stack:
        opened: dict[type, object] = {}
        for provider in providers:
            opened[provided_type(provider)] = await stack.enter_async_context(asynccontextmanager(provider)())
        yield opened
