"""Texts that come from jobs: error messages, tracebacks, words on progress. Cut to a length, and fit for JSON."""

LONGEST_MESSAGE = 10_000  # characters, as all of these
LONGEST_TRACEBACK = 20_000
LONGEST_PROGRESS = 1_000
CUT = "… (cut)"


def head(text: object, most: int) -> str:
    """The beginning of a text; what UTF-8 cannot write, such as half of a surrogate pair, is escaped."""
    whole = str(text)
    told = _escaped(whole[: most + 1])
    return told if len(told) <= most else told[: most - len(CUT)] + CUT


def tail(text: str, most: int) -> str:
    """The end of a text: of a traceback, where the error is."""
    return _escaped(text[-most:])[-most:]


def _escaped(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()
