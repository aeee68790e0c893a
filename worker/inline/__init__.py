"""Inline mode: jobs run in the process that enqueues them, without Redis, before the call returns.

It is the client with stand-ins for Redis in memory (`stand_ins`), and the worker's executor (`runner`).
"""

from worker.core.inline_mode import provide
from worker.inline import process
from worker.inline.client import InlineClient, inline
from worker.inline.frames import InlineDeadlock, InlineTooDeep

provide(process)

__all__ = ["InlineClient", "InlineDeadlock", "InlineTooDeep", "inline"]
