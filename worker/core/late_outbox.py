"""An outbox whose module is loaded when the first call is put into it."""

from importlib import import_module
from typing import Any

from worker.core.declared import Outbox


class LateOutbox(Outbox):
    """The function `put` of a module, given by its name: it needs SQLAlchemy, which takes as long to load as all of the
    engine, and who has no session has no use for that."""

    def __init__(self, module: str, *more: object) -> None:
        """`more`: what `put` is given besides the session and the call."""
        self._module = module
        self._more = more

    async def put(self, session: Any, call: Any) -> str:
        """Take a call in the transaction of `session`; the id that its job will have."""
        job_id: str = await import_module(self._module).put(session, call, *self._more)
        return job_id
