"""Names of queues on the command line."""

from worker.broker.queue_selection import Service
from worker.cli.usage import UsageError
from worker.core.errors import InvalidOptions


def queue_names(text: str) -> tuple[str, ...]:
    """The queues that `-Q` names.

    Raises:
        UsageError: it names none, or something that is not a queue.
    """
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names:
        raise UsageError(f"-Q {text!r} must name queues: give names separated by commas, or * for all")
    try:
        Service.read(names)
    except InvalidOptions as error:
        raise UsageError(f"-Q: {error.problems[0].message}") from error
    return names
