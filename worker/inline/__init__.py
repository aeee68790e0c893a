"""Inline mode: jobs run in the process that enqueues them, without Redis, before the call returns.

It is the client with what stands for Redis in memory (`stand_ins`), and the worker's executor (`runner`).
"""

from worker.inline.client import InlineClient, inline
from worker.inline.frames import InlineDeadlock, InlineTooDeep

__all__ = ["InlineClient", "InlineDeadlock", "InlineTooDeep", "inline"]
