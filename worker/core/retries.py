"""Whether, and when, a failed try is followed by another: pure decisions."""

import random
from dataclasses import dataclass
from typing import Literal

from worker.core.arq_retry import asked_delay
from worker.core.errors import LONGEST_DELAY, ErrorInProcess, Permanent, Retry, type_name


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Which exceptions are tried again, and after how long. Times are seconds.

    on: exception types. delay: before the first retry. backoff: `fixed` waits as long each time, `exponential` doubles.
    cap: never longer than this. jitter: the share of the delay that is random, 0 to 1, so that jobs that failed
    together are not retried together (M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015).
    """

    on: tuple[type[BaseException], ...] = ()
    delay: float = 1.0
    backoff: Literal["fixed", "exponential"] = "exponential"
    cap: float = 600.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.delay <= LONGEST_DELAY or not self.cap > 0 or not 0 <= self.jitter <= 1:
            raise ValueError(
                f"delay must be from 0 to ten years, cap above 0, and jitter from 0 to 1, unlike those of {self}"
            )

    def delay_after(self, tries: int, chance: float) -> float:
        """Seconds to wait after the given number of tries; `chance`, from 0 to 1, picks within the jitter."""
        doublings = min(tries - 1, 32) if self.backoff == "exponential" else 0  # 2.0**1024 overflows; 2**32 s is enough
        longest = min(self.cap, LONGEST_DELAY, self.delay * 2.0**doublings)
        return longest * (1 - self.jitter * chance)


NEVER = RetryPolicy()


def is_one_of(error: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    """Whether `error` is of one of these types, also where it happened in another process."""
    if isinstance(error, ErrorInProcess):
        return any(type_name(kind) in error.type_names for kind in kinds)
    return isinstance(error, kinds)


def next_try_in(
    error: BaseException, policy: RetryPolicy, tries: int, max_tries: int, chance: float | None = None
) -> float | None:
    """Seconds until the next try, or None when `error` is final.

    `raise Retry`, ours or arq's, always asks for another, `Permanent` never; others are up to the policy. No try
    follows `max_tries`.
    """
    if tries >= max_tries or is_one_of(error, (Permanent,)):
        return None
    asked = asked_delay(error)
    if asked is not None:
        return asked
    if isinstance(error, Retry) and error.delay is not None:
        return error.delay
    if isinstance(error, Retry) or is_one_of(error, policy.on):
        return policy.delay_after(tries, random.random() if chance is None else chance)  # noqa: S311  # not a secret
    return None
