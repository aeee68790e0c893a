"""Arq's own way to ask for another try, raised in a job of ours."""

from arq.worker import Retry, RetryJob

from worker.core.errors import LONGEST_DELAY


def asked_delay(error: BaseException) -> float | None:
    """Seconds that `arq.Retry(defer=…)` asks to wait: 0 without `defer`, as in arq, and ten years at most. None for any
    other error."""
    if isinstance(error, RetryJob):
        return 0.0
    if not isinstance(error, Retry):
        return None
    defer_ms: object = getattr(error, "defer_score", None)  # a subclass may not have called arq's constructor
    return min(LONGEST_DELAY, max(0.0, defer_ms / 1000)) if isinstance(defer_ms, int | float) else 0.0
