"""Errors pass between processes, as those of `multiprocessing` and of pytest-xdist do: by pickle."""

import copy
import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Iterator

import pytest

import worker
from worker.core.errors import (
    ArgumentProblem,
    EmbarqError,
    Permanent,
    ResourceUnavailable,
    SoftTimeLimitExceeded,
    UnknownJob,
)

PROBLEMS = (ArgumentProblem(("numbers", 3), "must be an integer"),)
VALUES = {"problems": PROBLEMS, "limit": 2.5, "delay": 3.0, "type_names": ["a.B"], "traits": {"class": "a:B"}}


class OwnConstructor(Permanent):
    def __init__(self, host: str, *, port: int) -> None:
        super().__init__(f"no mail server at {host}:{port}")
        self.host, self.port = host, port


class MailboxMissing(ResourceUnavailable, FileNotFoundError):
    pass


def kinds(base: type[BaseException]) -> Iterator[type[BaseException]]:
    yield base
    for kind in base.__subclasses__():
        yield from kinds(kind)


def ours() -> list[type[BaseException]]:
    for module in pkgutil.walk_packages(worker.__path__, "worker."):
        if "migrations" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found = {kind for base in (EmbarqError, SoftTimeLimitExceeded) for kind in kinds(base)}
    return sorted((kind for kind in found if kind.__module__.startswith("worker.")), key=lambda kind: kind.__qualname__)


def made(kind: type[BaseException]) -> BaseException:
    """One of a class, with all that its constructor takes."""
    if inspect.isfunction(kind.__init__):
        names = list(inspect.signature(kind.__init__).parameters)[1:]
        return kind(*[VALUES.get(name, name) for name in names])
    return kind("what is wrong")


def same(one: BaseException, other: BaseException) -> bool:
    return (type(one), str(one), one.args, vars(one)) == (type(other), str(other), other.args, vars(other))


@pytest.mark.parametrize("kind", ours(), ids=lambda kind: kind.__name__)
def test_errors_survive_pickle_and_copies(kind: type[BaseException]) -> None:
    error = made(kind)
    error.add_note("the third of its bulk")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert same(pickle.loads(pickle.dumps(error, protocol)), error)  # noqa: S301
    assert same(copy.copy(error), error)


def test_all_errors_are_looked_at() -> None:
    assert {UnknownJob, SoftTimeLimitExceeded} <= set(ours())
    assert len(ours()) > 40


def test_errors_of_jobs_survive_with_a_constructor_of_their_own() -> None:
    error = OwnConstructor("localhost", port=25)
    assert same(pickle.loads(pickle.dumps(error)), error)  # noqa: S301


def test_errors_that_are_errors_of_the_system_keep_what_those_say() -> None:
    error = MailboxMissing(2, "No such file or directory", "/var/mail/ann")
    back = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert same(back, error)
    assert (back.errno, back.filename) == (2, "/var/mail/ann")
