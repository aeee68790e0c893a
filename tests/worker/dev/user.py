"""A user of private servers, as a process of its own: it prints their URLs, and leaves when its input ends.

python -m tests.worker.dev.user FOLDER redis postgres [fork]
"""

import json
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from worker.dev import postgres_for, redis_for
from worker.observability.logs import configure_logs

FINDERS = {"redis": redis_for, "postgres": postgres_for}


def main(folder: Path, kinds: list[str]) -> None:
    configure_logs("INFO", as_json=False)  # to standard error
    with ExitStack() as stack:
        found = {kind: stack.enter_context(FINDERS[kind](folder, None)) for kind in kinds if kind in FINDERS}
        child = 0
        if "fork" in kinds:
            child = os.fork()
            if child == 0:
                signal.pause()
        sys.stdout.write(json.dumps(found | {"child": child}) + "\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
