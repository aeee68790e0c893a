"""Who catches an error that a docstring promises can import it from where it found the function."""

import builtins
import inspect
import re
from collections.abc import Iterator
from types import ModuleType

import pytest

import worker.database
import worker.dev
import worker.public
import worker.testing

PACKAGES = [worker.public, worker.database, worker.dev, worker.testing]
RAISES = re.compile(r"^Raises:\n((?:(?: .*)?\n?)*)", re.MULTILINE)
ENTRY = re.compile(r"^    ([A-Z]\w*(?:, [A-Z]\w*)*): ", re.MULTILINE)


def documented(package: ModuleType) -> Iterator[tuple[str, object]]:
    """What a package offers, and the public attributes of its classes, also of those of its objects."""
    for name in package.__all__:
        found = getattr(package, name)
        yield name, found
        for attribute in dir(found if inspect.isclass(found) else type(found)):
            if not attribute.startswith("_") or attribute in ("__call__", "__init__"):
                yield f"{name}.{attribute}", inspect.getattr_static(found, attribute, None)


def promised(thing: object) -> list[str]:
    """The errors that a docstring names."""
    if not isinstance(doc := getattr(thing, "__doc__", None), str):
        return []
    return [
        name
        for part in RAISES.findall(inspect.cleandoc(doc))
        for names in ENTRY.findall(part)
        for name in names.split(", ")
    ]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_promised_errors_are_public(package: ModuleType) -> None:
    public = {*worker.public.__all__, *package.__all__, *vars(builtins)}
    missing = {name: where for where, thing in documented(package) for name in promised(thing) if name not in public}
    assert missing == {}


def test_promises_are_found() -> None:
    found = {name for _, thing in documented(worker.public) for name in promised(thing)}
    assert {"JobEnded", "LeaseLost", "NoClient", "ProjectError", "SettingsError"} <= found
