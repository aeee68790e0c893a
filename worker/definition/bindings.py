"""Which client serves the calls of a registry, where several are bound: the latest one."""

import contextlib
from dataclasses import dataclass
from typing import Generic, TypeVar

P = TypeVar("P")


@dataclass(frozen=True, slots=True, eq=False)
class Binding(Generic[P]):
    """One binding, which is ended by whoever made it, in any order."""

    producer: P


class Bindings(Generic[P]):
    """The bindings in force, the latest last. Safe from any thread: each step is a single, atomic call of the list."""

    def __init__(self) -> None:
        self._standing: list[Binding[P]] = []

    @property
    def latest(self) -> P | None:
        """The client that serves calls now."""
        last = next(reversed(self._standing), None)
        return None if last is None else last.producer

    def add(self, producer: P) -> Binding[P]:
        """Let `producer` serve calls, until its binding is removed or another is added."""
        binding = Binding(producer)
        self._standing.append(binding)
        return binding

    def remove(self, binding: Binding[P]) -> None:
        """End a binding, if it has not ended; those before and after it stay."""
        with contextlib.suppress(ValueError):
            self._standing.remove(binding)
