"""Texts that come from others: error messages, tracebacks, progress messages. Cut to a length, made fit for JSON or for
a terminal."""

LONGEST_MESSAGE = 10_000  # characters, as all of these
LONGEST_TRACEBACK = 20_000
LONGEST_PROGRESS = 1_000
CUT = "… (cut)"


def head(text: object, most: int) -> str:
    """The beginning of a text; what UTF-8 cannot write, such as half of a surrogate pair, is escaped."""
    whole = str(text)
    told = _fit_for_utf8(whole[: most + 1])
    return told if len(told) <= most else told[: most - len(CUT)] + CUT


def tail(text: str, most: int) -> str:
    """The end of a text: of a traceback, where the error is."""
    return _fit_for_utf8(text[-most:])[-most:]


def _fit_for_utf8(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def escaped(text: str) -> str:
    """The text with its control characters as escapes, line breaks too."""
    return text if text.isprintable() else "".join([_escape(character) for character in text])


def _escape(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
