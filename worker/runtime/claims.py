"""The numbers of a worker's claims: which were answered, and which it never heard of."""

ASK_AGAIN_AFTER = 0.5
MOST_UNHEARD = 1000


class Claims:
    """Counts claims from 1. What one brought whose answer got lost is asked back, more than once: Redis may get to the
    claim itself later than to the first such request.

    `last` is the newest number, `unheard` holds those to ask back. Times are of the monotonic clock, in seconds.
    `lease` bounds how long a lost claim can matter once Redis answers.
    """

    def __init__(self, lease: float) -> None:
        self._lease = lease
        self.last = 0
        self.unheard: dict[int, float | None] = {}
        self._ask_at = 0.0

    def begin(self) -> int:
        """The number of a claim that is about to be sent."""
        self.last += 1
        return self.last

    def lost(self, number: int) -> None:
        """Its answer will not come; Redis may have acted on it, or may yet do so."""
        self.unheard[number] = None
        if len(self.unheard) > MOST_UNHEARD:
            del self.unheard[min(self.unheard)]

    def to_give_back(self, now: float) -> tuple[int, ...]:
        """Claims to ask back now, if it is time to."""
        if not self.unheard or now < self._ask_at:
            return ()
        self._ask_at = now + ASK_AGAIN_AFTER
        return tuple(self.unheard)

    def given_back(self, numbers: tuple[int, ...], now: float) -> None:
        """Redis has answered a request for these; a lease later nothing of them can be left."""
        for number in numbers:
            first = self.unheard.get(number)
            if first is None:
                self.unheard[number] = now
            elif now - first > self._lease:
                del self.unheard[number]
