"""The ids of one test: those that its code uses for jobs and workflows, and those in Redis."""

import hashlib

from worker.core import keys


class Ids:
    """Ids that the test's code chooses are prefixed with its tag, so that they never name a job of another test, or a
    real one. Those that Embarq makes are unique, and stay as they are; steps go by their workflow."""

    def __init__(self, tag: str) -> None:
        self._tag = tag
        self._made: set[str] = set()
        self._said: dict[str, str] = {}

    def keep(self, made: str) -> None:
        """Leave this id as it is: Embarq has made it."""
        self._made.add(made)

    def own(self, said: str) -> str:
        """An id as it is in Redis, from the test's or from the one in Redis."""
        name, mark, node = said.partition(keys.MARK)
        size = len(name.encode(errors="surrogatepass"))
        if name in self._made or name in self._said or not 0 < size <= keys.ID_BYTES:  # the last is refused as always
            return said
        own = f"{self._tag}-{name}"
        if len(own) - len(name) + size > keys.ID_BYTES - LONGEST_NODE:
            own = f"{self._tag}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:32]}"
        self._said[own] = name
        return own + mark + node

    def said(self, own: str) -> str:
        """An id as the test uses it."""
        name, mark, node = own.partition(keys.MARK)
        return self._said.get(name, name) + mark + node


LONGEST_NODE = 16  # bytes of a step's mark and number
