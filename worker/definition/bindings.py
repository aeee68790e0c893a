"""Who serves the calls of a registry where several have been named: the latest that still is."""

import contextlib
from dataclasses import dataclass
from typing import Generic, TypeVar

P = TypeVar("P")


@dataclass(frozen=True, slots=True, eq=False)
class Binding(Generic[P]):
    """One naming, which is ended by whoever made it, in whatever order."""

    producer: P


class Bindings(Generic[P]):
    """Those that stand, the latest last. Used from any thread: each step is one of the list's own."""

    def __init__(self) -> None:
        self._standing: list[Binding[P]] = []

    @property
    def latest(self) -> P | None:
        """Who serves calls now."""
        last = next(reversed(self._standing), None)
        return None if last is None else last.producer

    def add(self, producer: P) -> Binding[P]:
        """Let `producer` serve them, until its binding is removed or another comes."""
        binding = Binding(producer)
        self._standing.append(binding)
        return binding

    def remove(self, binding: Binding[P]) -> None:
        """End a binding, if it has not ended; those before and after it stay."""
        with contextlib.suppress(ValueError):
            self._standing.remove(binding)
