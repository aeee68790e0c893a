"""The rate limiter's own lines, run by Redis on times of our choosing."""

from collections.abc import Iterator
from importlib import resources
from itertools import accumulate
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.core import keys

FOLDER = resources.files("worker.broker") / "lua"
CONSTANTS = "".join(f"local {k} = {v if isinstance(v, int) else repr(v)}\n" for k, v in keys.LUA_CONSTANTS.items())
ASK = """
local key, answers = ARGV[1], {}
redis.call('DEL', RATE .. key)
for i = 2, #ARGV do
  local now = tonumber(ARGV[i])
  local room, free_at = room_of(key, now)
  if room > 0 then redis.call('RPUSH', RATE .. key, whole(now)) end
  answers[#answers + 1] = room > 0 and now or -free_at
end
redis.call('DEL', RATE .. key)
return answers
"""
SOURCE = CONSTANTS + "".join((FOLDER / f"{name}.lua").read_text() for name in ("prelude", "limits")) + ASK


@pytest.fixture(scope="module")
def server(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url) as opened:
        yield opened


def reckoned(times: list[int], most: int, period: int) -> list[int]:
    """In the plainest way: one may start while fewer than `most` started in the period that ends now; else the time at
    which that is so again, as a negative number."""
    starts: list[int] = []
    answers = []
    for now in times:
        if sum(now - period < each for each in starts) < most:
            starts.append(now)
            answers.append(now)
        else:
            answers.append(-(starts[-most] + period))
    return answers


ARRIVALS = st.lists(st.integers(0, 400), min_size=1, max_size=60).map(lambda gaps: list(accumulate(gaps, initial=1)))


@settings(max_examples=200, deadline=None)
@given(times=ARRIVALS, most=st.integers(1, 8), period=st.integers(1, 1000))
def test_as_many_start_as_the_rate_allows_and_no_more(server: Any, times: list[int], most: int, period: int) -> None:
    answers: list[int] = server.eval(SOURCE, 0, f"r:{most}:{period}:property", *times)
    assert answers == reckoned(times, most, period)
    starts = [answer for answer in answers if answer > 0]
    for begin in starts:
        assert sum(begin <= each < begin + period for each in starts) <= most
