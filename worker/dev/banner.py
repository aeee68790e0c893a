"""What is shown once everything is up: where it answers, and a command to try."""

import shlex

from worker.dev.environment import KEY
from worker.observability.colours import BOLD, DIM, painted


def trial(url: str, example: bytes, key: str | None, *, is_exported: bool) -> str:
    """A shell command that queues the job of this body. `is_exported`: whether that shell has the key as a variable;
    the key is not shown then."""
    header = "" if key is None else f"-H {_quoted_header(key, is_exported)} "
    return f"curl -i {url}/api/v1/jobs {header}-d {shlex.quote(example.decode())}"


def _quoted_header(key: str, is_exported: bool) -> str:
    return f'"Authorization: Bearer ${KEY}"' if is_exported else shlex.quote(f"Authorization: Bearer {key}")


def banner(url: str, seconds: float, trial: str, *, reload: bool, in_colour: bool) -> list[str]:
    """The lines. `seconds`: how long the start took. `trial`: a command to try, if there is one."""
    strong = (lambda text: painted(text, BOLD)) if in_colour else str
    weak = (lambda text: painted(text, DIM)) if in_colour else str
    lines = ["", f"  {strong('Embarq')} is ready {weak(f'after {seconds:.1f} s')}", f"  {strong(url)}/", ""]
    if trial:
        lines += [f"  Try:  {trial}", ""]
    changes = "A change of the code restarts the API and the worker. " if reload else ""
    return [*lines, f"  {weak(f'{changes}Ctrl-C stops everything.')}", ""]
