"""A newcomer's first minutes: clone, `make run`, the README's first lines, a job of one's own, its test, Ctrl-C."""

import json
import subprocess
import sys
from pathlib import Path

from tests.documentation.pages import read_page
from tests.install.fresh import Fresh
from tests.support import ROOT, free_port

README = read_page(ROOT / "README.md")
FIRST_JOB = next(block.text for block in README.blocks if "curl -i" in block.text)


def test_newcomer(folder: Path) -> None:
    clone = Fresh(folder / "embarq", folder / "embarq" / ".venv" / "bin")
    subprocess.run(["git", "clone", "--quiet", ROOT, clone.folder], check=True, timeout=60)
    clone.must("make", ".venv/ready", f"PYTHON={sys.executable}")
    port = free_port()
    with clone.running("make", "run", port=port) as http:
        first = clone.must("bash", "-ec", FIRST_JOB.replace("127.0.0.1:8000", f"127.0.0.1:{port}"))
        assert "202 Accepted" in first
        location = next(line.split(": ")[1] for line in first.splitlines() if line.lower().startswith("location:"))
        assert http.get(location.strip(), params={"wait": "25"}).json()["state"] == "succeeded"

        for name, text in README.files.items():  # while it runs: no restart is needed
            (clone.folder / name).write_text(text)
        told = json.loads(clone.must("embarq", "enqueue", "greet", "name=Ada", "--wait", "60", "--json"))
        assert told["result"] == "Hello, Ada!"
        assert "Hello, Ada!" in clone.must("python", "greet.py")

        clone.must("embarq", "new", "job", "say_hello")
        assert "1 passed" in clone.must("pytest", "-q", "tests/test_say_hello.py")
        told = json.loads(clone.must("embarq", "enqueue", "say_hello", "name=Bob", "--wait", "60", "--json"))
        assert told["result"] == "Hello, Bob!"
    own = ["tests/jobs/test_documented.py", "tests/test_second_name.py"]
    clone.must("pytest", "-q", *own)  # a job of one's own breaks no test of ours
    again = subprocess.run(
        ["git", "status", "--porcelain"], cwd=clone.folder, capture_output=True, text=True, check=True
    )
    names = {line[3:] for line in again.stdout.splitlines()}
    assert names == {"greet.py", "jobs/greetings.py", "jobs/say_hello.py", "tests/test_say_hello.py"}
