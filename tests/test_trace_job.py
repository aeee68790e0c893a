import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
MOST_CALLS, MOST_FILES, MOST_MOVES = 70, 11, 43  # half of what there was: docs/performance.md
LONGEST_FILE, LONGEST_FUNCTION = 250, 50


def test_the_way_of_a_job_through_the_worker_is_short() -> None:
    command = [sys.executable, "-m", "benchmarks.trace_job", "--path"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True).stdout
    figures = re.match(r"(\d+) calls, (\d+) files, (\d+) moves between files\n(\d+) calls until", told)
    assert figures is not None
    calls, files, moves, until_it_waits = map(int, figures.groups())
    table = re.findall(r"^\| (worker/\S+\.py) \| (\d+) \| (\S+), (\d+) \| (\d+) \|$", told, re.MULTILINE)
    path = re.findall(r"^(worker/\S+\.py):\d+ (\S+)$", told, re.MULTILINE)

    assert len(table) == files
    assert len(path) == calls == sum(int(each[-1]) for each in table)
    assert files <= moves + 1 <= calls < until_it_waits
    assert calls <= MOST_CALLS, told
    assert files <= MOST_FILES, told
    assert moves <= MOST_MOVES, told
    for file, lines, function, length, _ in table:
        assert int(lines) <= LONGEST_FILE, file
        assert int(length) <= LONGEST_FUNCTION, f"{file}: {function}"
    assert any(name.endswith("Executor.execute") for _, name in path)
