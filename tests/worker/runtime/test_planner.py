"""Every race that was ever found, as a row: what happens, and what the planner says to that."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from tests.worker.runtime.desk import Desk
from worker.core.config import Suspects
from worker.runtime.events import HooksBegun, HooksEnded, Notified, Told

Step = tuple[Callable[[Desk], Any], str]
LARGE = 3 * 1024 * 1024


class Race(NamedTuple):
    """`steps`: what happens, and all that is done about it then, but for sleep."""

    name: str
    rules: dict[str, Any]
    steps: tuple[Step, ...]


def race(name: str, *steps: Step, **rules: Any) -> Race:
    return Race(name, rules, steps)


def nothing(desk: Desk) -> None:
    """It has only been made."""


def later(seconds: float) -> Callable[[Desk], None]:
    return lambda desk: desk.later(seconds)


def both(*happen: Callable[[Desk], Any]) -> Callable[[Desk], None]:
    """Several things, before anything is done about them."""

    def all_of_them(desk: Desk) -> None:
        for each in happen:
            each(desk)

    return all_of_them


def owes(names: str) -> Callable[[Desk], None]:
    """Nothing happens; what Redis has not confirmed is still known."""

    def check(desk: Desk) -> None:
        assert desk.state.unsettled() == [f"{name} done" for name in names.split()]

    return check


BEGINS: Step = (nothing, "wait with a claim; claim 1")

ROWS = [
    race(
        "an idle worker leaves a claim in Redis, and keeps a slot for it",
        BEGINS,
        (lambda d: d.answer(), ""),
        (lambda d: d.wake("a"), "confirm 1; begin a; wait"),
        slots=2,
    ),
    race(
        "a worker with one slot waits without a claim: it could not look beside it",
        (nothing, "wait; claim 1"),
        slots=1,
    ),
    race(
        "blocking claim answered while a job began: the slot kept for it is used",
        BEGINS,
        (lambda d: d.answer("a"), "confirm 2; begin a"),
        (lambda d: d.wake("b"), "confirm 1; begin b"),
    ),
    race(
        "a wait with a claim is broken off where jobs run, unless they end at once",
        BEGINS,
        (lambda d: d.answer("a"), "confirm 2; begin a"),
        (later(0.004), ""),
        (lambda d: d.end("a"), "store a"),
        (lambda d: d.answer(), "finish a stored"),
        (later(0.02), ""),
    ),
    race(
        "a wait with a claim is broken off where jobs run, again and again until it has ended",
        BEGINS,
        (lambda d: d.answer("a"), "confirm 2; begin a"),
        (later(0.01), "break off"),
        (later(0.01), ""),
        (lambda d: d.broken_off(), ""),
        (later(0.01), "break off"),
        (lambda d: d.wake(token=False), "wait"),
        (lambda d: d.broken_off(), ""),
    ),
    race(
        "a server that does not let us break off is not asked again before the next connection",
        BEGINS,
        (lambda d: d.answer("a"), "confirm 2; begin a"),
        (later(0.01), "break off"),
        (lambda d: d.broken_off(again=False), ""),
        (later(0.3), ""),
        (lambda d: d.wait_fails(), "ask back 1 + claim 1"),
        (later(0.5), "wait"),
    ),
    race(
        "a new connection may break off, although the one before it could not",
        BEGINS,
        (lambda d: d.answer("a"), "confirm 2; begin a"),
        (later(0.01), "break off"),
        (lambda d: d.broken_off(again=False), ""),
        (lambda d: d.wait_fails(), "ask back 1 + claim 1"),
        (lambda d: d.answer(), ""),
        (later(0.5), "wait; ask back 1 + claim 1"),
        (both(lambda d: d.answer(), lambda d: d.end("a")), "store a"),
        (lambda d: d.answer(), "finish a stored"),
        (later(0.01), "break off"),
    ),
    race(
        "claimed while stopping → released at once",
        BEGINS,
        (lambda d: d.stop(), "drain"),
        (lambda d: d.answer("a"), "confirm 2; release a; store a"),
        (lambda d: d.wake(token=False), ""),
        (lambda d: d.answer(), "finish a stored; leave"),
    ),
    race(
        "claimed while handing back → released at once",
        BEGINS,
        (lambda d: d.stop(grace=0), "drain; hand back"),
        (lambda d: d.wake("a"), "confirm 1; release a"),
        (lambda d: d.answer("b"), "confirm 2; release b; store a b"),
        (lambda d: d.answer(), "finish a stored, b stored; leave"),
    ),
    race(
        "claimed and told to stop before it was begun → released at once",
        BEGINS,
        (both(lambda d: d.answer("a"), lambda d: d.stop()), "drain; confirm 2; release a; store a"),
    ),
    race(
        "blocking claim under way at the stop: broken off, and waited for",
        BEGINS,
        (both(lambda d: d.answer(), lambda d: d.stop()), "drain"),
        (later(0.01), "break off"),
        (lambda d: d.wake(token=False), "leave"),
    ),
    race(
        "a plain wait under way at the stop is not waited for",
        (nothing, "wait; claim 1"),
        (both(lambda d: d.answer(), lambda d: d.stop()), "drain; leave"),
        slots=1,
    ),
    race(
        "two stop signals: the second one ends the grace period",
        BEGINS,
        (lambda d: d.answer("a"), "confirm 2; begin a"),
        (lambda d: d.stop(grace=30), "drain"),
        (lambda d: d.stop(grace=0), "hand back"),
        (lambda d: d.stop(grace=0), ""),
    ),
    race(
        "the end of the grace period comes by itself",
        BEGINS,
        (lambda d: d.answer("a"), "confirm 2; begin a"),
        (both(lambda d: d.wake(token=False), lambda d: d.stop(grace=5)), "drain"),
        (later(5), "hand back"),
        (lambda d: d.end("a"), "store a"),
        (lambda d: d.answer(), "finish a stored; leave"),
    ),
    race(
        "no time left: it leaves whatever is under way, and keeps the outbox",
        BEGINS,
        (lambda d: d.answer("a b"), "confirm 2; begin a b"),
        (lambda d: d.end("a"), "store a"),
        (lambda d: d.stop(grace=0), "drain; hand back"),
        (lambda d: d.end("b"), ""),
        (later(3), "leave"),
        (owes("a b"), ""),
        (lambda d: d.interrupt(), ""),
        (owes("a b"), ""),
    ),
    race(
        "a stop lets running jobs end, and stores them before it leaves",
        BEGINS,
        (both(lambda d: d.answer("a"), lambda d: d.wake("b")), "confirm 2; begin a; confirm 1; begin b"),
        (both(later(0.02), lambda d: d.stop()), "drain"),
        (lambda d: d.end("a"), "store a"),
        (lambda d: d.end("b"), ""),
        (lambda d: d.answer(), "finish a stored; store b"),
        (lambda d: d.answer(), "finish b stored; leave"),
    ),
    race(
        "recycled while idle: nothing is waited for but the blocking claim",
        BEGINS,
        (lambda d: d.answer(), ""),
        (lambda d: d.stop(grace=25), "drain"),
        (later(0.01), "break off"),
        (both(lambda d: d.broken_off(), lambda d: d.wake(token=False)), "leave"),
    ),
    race(
        "claim's answer lost → its number asked back until a lease after Redis answered",
        (nothing, "wait; claim 1"),
        (lambda d: d.cut(), ""),
        (later(0.2), "ask back 1 + claim 1"),
        (lambda d: d.answer(), ""),
        (later(0.5), "ask back 1 + claim 1"),
        (lambda d: d.answer(), ""),
        (later(14.4), "ask back 1 + claim 1"),
        (lambda d: d.answer(), ""),
        (later(0.5), "ask back 1 + claim 1"),
        (lambda d: d.answer(), ""),
        (later(0.5), "claim 1"),
        slots=1,
    ),
    race(
        "blocking claim's answer lost → asked back, and claimed at once",
        BEGINS,
        (lambda d: d.answer(), ""),
        (lambda d: d.wait_fails(), "ask back 1 + claim 2"),
        (later(0.5), "wait"),
        (lambda d: d.answer(), ""),
    ),
    race(
        "the server has forgotten the script of a blocking claim → claimed at once",
        BEGINS,
        (lambda d: d.answer(), ""),
        (lambda d: d.script_unknown(), "wait with a claim; ask back 1 + claim 1"),
    ),
    race(
        "a token whose blocking claim was not made, in a worker that stops, is passed on",
        BEGINS,
        (both(lambda d: d.answer(), lambda d: d.stop()), "drain"),
        (lambda d: d.script_unknown(), "pass on token; leave"),
    ),
    race(
        "a token whose blocking claim was not made, where there is no room any more, is passed on",
        BEGINS,
        (lambda d: d.answer("a"), "confirm 2; begin a"),
        (both(lambda d: d.tell(HooksBegun()), lambda d: d.script_unknown()), "pass on token"),
    ),
    race(
        "only the claim of an exchange failed: what was stored is stored, the claim is asked back",
        BEGINS,
        (lambda d: d.answer("a"), "confirm 2; begin a"),
        (both(lambda d: d.tell(Notified()), lambda d: d.end("a")), "store a + claim 1"),
        (lambda d: d.answer(claim=False), "finish a stored; ask back 3 + claim 1"),
    ),
    race(
        "Redis away: outcomes go again, in their order, after growing pauses",
        BEGINS,
        (both(lambda d: d.answer("a"), lambda d: d.wake("b")), "confirm 2; begin a; confirm 1; begin b"),
        (lambda d: d.end("a"), "store a"),
        (both(lambda d: d.end("b"), lambda d: d.cut()), ""),
        (owes("a b"), ""),
        (later(0.1), ""),
        (later(0.125), "store a b"),
        (lambda d: d.cut(), ""),
        (later(0.3), ""),
        (later(0.125), "store a b + claim 2"),
        (lambda d: d.answer(), "finish a stored, b stored; wait with a claim"),
    ),
    race(
        "Redis away twice: the second time begins with the first pause",
        (nothing, "wait; claim 1"),
        (lambda d: d.cut(), ""),
        (later(0.2), "ask back 1 + claim 1"),
        (lambda d: d.cut(), ""),
        (later(0.2), ""),
        (later(0.2), "claim 1"),
        (lambda d: d.answer(), ""),
        (later(0.5), "ask back 1 2 + claim 1"),
        (lambda d: d.cut(), ""),
        (later(0.2), "claim 1"),
        slots=1,
    ),
    race(
        "cancelled while settling keeps the outbox",
        BEGINS,
        (lambda d: d.answer("a"), "confirm 2; begin a"),
        (lambda d: d.end("a"), "store a"),
        (lambda d: d.interrupt(), "store a"),
        (owes("a"), ""),
    ),
    race(
        "late result refused: its slot is free all the same",
        (nothing, "wait; claim 1"),
        (lambda d: d.answer("a"), "confirm 1; begin a"),
        (lambda d: d.end("a"), "store a"),
        (lambda d: d.answer(refused="a"), "finish a refused; claim 1"),
        slots=1,
    ),
    race(
        "refused together → each sent alone, and only the one at fault is left out",
        (nothing, "wait; claim 3"),
        (both(lambda d: d.answer("a b c"), lambda d: d.wake(token=False)), "confirm 1; begin a b c"),
        (lambda d: d.end("a b c"), "store a b c"),
        (lambda d: d.refuse(), ""),
        (later(0.2), "store a"),
        (lambda d: d.answer(), "finish a stored; wait; store b"),
        (lambda d: d.refuse(), "finish b refused; store c"),
        (lambda d: d.answer(), "finish c stored; claim 3"),
        slots=3,
        burst=True,
    ),
    race(
        "a claim that is refused is tried again after a pause",
        (nothing, "wait; claim 1"),
        (lambda d: d.refuse(), ""),
        (later(0.2), "ask back 1 + claim 1"),
        slots=1,
    ),
    race(
        "outcomes above 4 MiB go in several exchanges",
        (nothing, "wait; claim 3"),
        (both(lambda d: d.answer("a b c"), lambda d: d.wake(token=False)), "confirm 1; begin a b c"),
        (lambda d: d.end("a b c", size=LARGE), "store a"),
        (lambda d: d.answer(), "finish a stored; wait; store b + claim 2"),
        (lambda d: d.answer(), "finish b stored; store c"),
        slots=3,
        burst=True,
    ),
    race(
        "one outcome above 4 MiB goes all the same",
        (nothing, "wait; claim 1"),
        (lambda d: d.answer("a"), "confirm 1; begin a"),
        (lambda d: d.end("a", size=3 * LARGE), "store a"),
        slots=1,
    ),
    race(
        "lease lost: nothing is said of the job, and its slot is free",
        (nothing, "wait; claim 1"),
        (lambda d: d.answer("a"), "confirm 1; begin a"),
        (lambda d: d.lose("a"), "claim 1"),
        slots=1,
    ),
    race(
        "room after none → claimed at once: others were woken for what came meanwhile",
        (nothing, "wait; claim 1"),
        (lambda d: d.answer("a", due=30), "confirm 1; begin a"),
        (lambda d: d.lose("a"), "claim 1"),
        slots=1,
    ),
    race(
        "a token that comes while there is no room is passed on",
        (nothing, "wait; claim 1"),
        (lambda d: d.answer("a"), "confirm 1; begin a"),
        (lambda d: d.wake(), "pass on a token"),
        (lambda d: d.end("a"), "store a"),
        (lambda d: d.answer(), "finish a stored; wait; claim 1"),
        slots=1,
    ),
    race(
        "told of work while a claim is under way → claimed again, as that may have missed it",
        (nothing, "wait; claim 1"),
        (lambda d: d.wake(), "wait"),
        (lambda d: d.answer(), "claim 1"),
        (lambda d: d.answer(), ""),
        slots=1,
    ),
    race(
        "abandoned: settled once, and what it says at last is not heard",
        (nothing, "wait; claim 1"),
        (lambda d: d.answer("a"), "confirm 1; begin a"),
        (lambda d: d.end("a"), "store a"),
        (lambda d: d.end("a"), ""),
        (lambda d: d.answer(), "finish a stored; claim 1"),
        (lambda d: d.end("a"), ""),
        slots=1,
    ),
    race(
        "abandoned after its lease was lost: nothing is stored when it ends at last",
        (nothing, "wait; claim 1"),
        (lambda d: d.answer("a"), "confirm 1; begin a"),
        (lambda d: d.lose("a"), "claim 1"),
        (lambda d: d.end("a"), ""),
        slots=1,
    ),
    race(
        "same job claimed again in the same worker: the earlier run is stopped, and keeps its slot until it has ended",
        BEGINS,
        (lambda d: d.answer("a"), "confirm 2; begin a"),
        (later(0.5), "break off"),
        (lambda d: d.wake("a"), "confirm 1; stop the earlier a; begin a"),
        (lambda d: d.lose("a"), "wait; claim 1"),
        (lambda d: d.end("a"), ""),
    ),
    race(
        "same job claimed again while its outcome waits: no more is asked for than there are slots",
        (nothing, "wait; claim 2"),
        (both(lambda d: d.wake(token=False), lambda d: d.answer("a b")), "confirm 1; begin a b"),
        (both(lambda d: d.tell(Notified()), lambda d: d.end("a b", size=LARGE)), "store a + claim 1"),
        (
            both(lambda d: d.answer("b"), lambda d: d.tell(Notified())),
            "finish a stored; confirm 2; stop the earlier b; begin b; store b + claim 1",
        ),
        (lambda d: d.answer(refused="b"), "finish b refused; wait"),
        burst=True,
    ),
    race(
        "burst ends only when nothing waits",
        (nothing, "wait; claim 2"),
        (both(lambda d: d.answer("a", due=15), lambda d: d.wake(token=False)), "confirm 1; begin a; wait"),
        (lambda d: d.end("a"), "store a"),
        (lambda d: d.answer(due=3), "finish a stored; claim 2"),
        (later(0.5), ""),
        (lambda d: d.answer(), "leave"),
        burst=True,
    ),
    race(
        "burst told that only jobs of others are left: it takes no more, and ends when its own have",
        (nothing, "wait; claim 1"),
        (lambda d: d.answer("a", due=1), "confirm 1; begin a"),
        (lambda d: d.tell(Told()), "drain"),
        (lambda d: d.end("a"), "store a"),
        (lambda d: d.answer(), "finish a stored; leave"),
        slots=1,
        burst=True,
    ),
    race(
        "a signal after that has its grace period",
        (nothing, "wait; claim 1"),
        (lambda d: d.answer("a", due=1), "confirm 1; begin a"),
        (lambda d: d.tell(Told()), "drain"),
        (lambda d: d.stop(grace=2), ""),
        (lambda d: d.tell(Told()), ""),
        (later(2), "hand back"),
        slots=1,
        burst=True,
    ),
    race(
        "backlog: two exchanges under way, each for half of the slots",
        (nothing, "wait; claim 4"),
        (lambda d: d.answer("a b c d", more=True), "confirm 1; begin a b c d"),
        (lambda d: d.end("a b c"), "store a b + claim 2; store c + claim 1"),
        (lambda d: d.end("d"), ""),
        (lambda d: d.answer("e f", more=True), "finish a stored, b stored; confirm 2; begin e f; store d + claim 1"),
        (lambda d: d.answer(), "finish c stored"),
        slots=4,
        burst=True,
    ),
    race(
        "two exchanges under way, one answered and the other refused: nothing is dropped, and none goes twice",
        (nothing, "wait; claim 4"),
        (lambda d: d.answer("a b c d", more=True), "confirm 1; begin a b c d"),
        (lambda d: d.end("a b c d"), "store a b + claim 2; store c d + claim 2"),
        (
            both(lambda d: d.answer("e", more=True), lambda d: d.refuse()),
            "finish a stored, b stored; confirm 2; begin e",
        ),
        (owes("c d"), ""),
        (later(0.2), "store c + ask back 3; store d"),
        (both(lambda d: d.refuse(), lambda d: d.answer()), "finish c refused; finish d stored; claim 2; claim 1"),
        (owes(""), ""),
        slots=4,
        burst=True,
    ),
    race(
        "two exchanges under way at the stop: what both bring goes back, and it leaves when both are answered",
        (nothing, "wait; claim 4"),
        (lambda d: d.answer("a b c d", more=True), "confirm 1; begin a b c d"),
        (lambda d: d.end("a b c d"), "store a b + claim 2; store c d + claim 2"),
        (lambda d: d.stop(), "drain"),
        (lambda d: d.answer("e", more=True), "finish a stored, b stored; confirm 2; release e; store e"),
        (lambda d: d.answer("f"), "finish c stored, d stored; confirm 3; release f"),
        (lambda d: d.answer(), "finish e stored; store f"),
        (lambda d: d.answer(), "finish f stored; leave"),
        slots=4,
        burst=True,
    ),
    race(
        "hooks hold slots",
        (nothing, "wait; claim 1"),
        (lambda d: d.answer("a"), "confirm 1; begin a"),
        (lambda d: d.end("a"), "store a"),
        (both(lambda d: d.answer(), lambda d: d.tell(HooksBegun())), "finish a stored"),
        (later(0.5), ""),
        (lambda d: d.tell(HooksEnded()), "claim 1"),
        slots=1,
    ),
    race(
        "a worker that is told to stop waits for hooks, until there is no time",
        (nothing, "wait; claim 1"),
        (lambda d: d.answer("a"), "confirm 1; begin a"),
        (lambda d: d.end("a"), "store a"),
        (
            both(lambda d: d.answer(), lambda d: d.tell(HooksBegun()), lambda d: d.stop(grace=0)),
            "finish a stored; drain; hand back",
        ),
        (later(3), "leave"),
        slots=1,
    ),
    race(
        "suspects asked only when nothing else may come",
        BEGINS,
        (lambda d: d.answer(suspects=3), ""),
        (later(0.01), "break off"),
        (lambda d: d.wake("a", suspects=3), "confirm 1; begin a; wait; claim 1"),
        (lambda d: d.answer(suspects=3), ""),
        (lambda d: d.end("a"), "store a"),
        (lambda d: d.answer(), "finish a stored"),
        (later(0.5), "claim 1 suspects"),
        (lambda d: d.answer("b"), "confirm 4; begin b"),
        (lambda d: d.end("b"), "store b"),
        (lambda d: d.answer(), "finish b stored"),
        (later(0.5), "claim 2"),
    ),
    race(
        "a blocking claim that tells of suspects only → claimed at once: it is their turn",
        BEGINS,
        (lambda d: d.answer(), ""),
        (lambda d: d.wake(suspects=2), "claim 1 suspects"),
        (lambda d: d.answer("a"), "confirm 3; begin a"),
    ),
    race(
        "suspects that wait for 30 s: nothing else is claimed until what runs has ended",
        (nothing, "wait; claim 4"),
        (both(lambda d: d.answer("a", suspects=1), lambda d: d.wake(token=False)), "confirm 1; begin a; wait"),
        (later(30), ""),
        (lambda d: d.end("a"), "store a"),
        (lambda d: d.answer(), "finish a stored; claim 2 suspects"),
        slots=4,
        burst=True,
    ),
    race(
        "an isolated worker takes one group after the other, and ends when there is none",
        (nothing, "claim 2 suspects"),
        (lambda d: d.answer("a b"), "confirm 1; begin a b"),
        (lambda d: d.end("a"), "store a"),
        (lambda d: d.answer(), "finish a stored"),
        (lambda d: d.end("b"), "store b"),
        (lambda d: d.answer(), "finish b stored; claim 2 suspects"),
        (lambda d: d.answer(), "leave"),
        burst=True,
        suspects=Suspects.ONLY,
    ),
    race(
        "jobs of plain arq clients leave no token → looked for every poll",
        (nothing, "wait; claim 1"),
        (lambda d: d.answer(), ""),
        (later(0.4), ""),
        (later(0.1), "claim 1"),
        slots=1,
    ),
    race(
        "what is due soon is claimed then, not at the next poll",
        (nothing, "wait; claim 1"),
        (lambda d: d.answer(due=0.2), ""),
        (later(0.2), "claim 1"),
        slots=1,
    ),
    race(
        "what a blocking claim says is due soon is claimed then",
        BEGINS,
        (lambda d: d.answer(), ""),
        (lambda d: d.wake("a", due=0.2), "confirm 1; begin a; wait"),
        (later(0.2), "claim 1"),
    ),
    race(
        "a blocking claim that leaves more behind → claimed at once",
        BEGINS,
        (lambda d: d.answer(), ""),
        (lambda d: d.wake("a", more=True), "confirm 1; begin a; wait; claim 1"),
    ),
    race(
        "told to stop before it has begun → it only leaves",
        (lambda d: d.stop(), "drain; leave"),
    ),
    race(
        "Redis away at the stop: it tries as long as there is time, and keeps the outbox",
        (nothing, "wait; claim 1"),
        (lambda d: d.answer("a"), "confirm 1; begin a"),
        (lambda d: d.end("a"), "store a"),
        (both(lambda d: d.stop(grace=0), lambda d: d.cut()), "drain; hand back"),
        (later(0.25), "store a"),
        (lambda d: d.cut(), ""),
        (later(2.75), "leave"),
        (owes("a"), ""),
        slots=1,
    ),
    race(
        "lost and stopped: a job whose lease is gone is not stored, and does not keep the worker",
        (nothing, "wait; claim 1"),
        (lambda d: d.answer("a"), "confirm 1; begin a"),
        (lambda d: d.stop(), "drain"),
        (lambda d: d.lose("a"), "leave"),
        slots=1,
    ),
    race(
        "a wait whose connection breaks is begun again after a moment",
        (nothing, "wait; claim 1"),
        (lambda d: d.answer(due=60), ""),
        (lambda d: d.wait_fails(), ""),
        (later(0.25), ""),
        (later(0.25), "wait"),
        slots=1,
        poll=30.0,
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_race(row: Race) -> None:
    desk = Desk(**row.rules)
    for number, (happens, says) in enumerate(row.steps):
        happens(desk)
        assert desk.says() == says, f"step {number}"


class ReadMeanwhile(list[Any]):
    """A list in whose first reading by another thread the loop comes in between, before or after its items are seen."""

    def __init__(self, items: list[Any], meanwhile: Callable[[], Any], *, before: bool) -> None:
        super().__init__(items)
        self._meanwhile, self._before, self._read = meanwhile, before, False

    def __iter__(self) -> Iterator[Any]:
        first, self._read = not self._read, True
        if first and self._before:
            self._meanwhile()
        yield from super().__iter__()
        if first and not self._before:
            self._meanwhile()


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("kept_in", ["sent", "outbox"])
@pytest.mark.parametrize("happens", ["it is sent", "its answer is lost", "both"])
def test_outcome_that_goes_on_its_way_is_seen_once_from_another_thread(
    happens: str, kept_in: str, before: bool
) -> None:
    desk = Desk(slots=1)
    desk.says()
    desk.answer("a")
    desk.says()
    desk.end("a")
    if happens == "its answer is lost":
        desk.says()

    def meanwhile() -> None:
        if happens != "its answer is lost":
            desk.says()
        if happens != "it is sent":
            desk.cut()

    setattr(desk.state, kept_in, ReadMeanwhile(getattr(desk.state, kept_in), meanwhile, before=before))
    assert desk.state.unsettled() == ["a done"]
