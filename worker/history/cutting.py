"""Records of ended jobs: split from the list they came in, and made small enough for a row."""

import contextlib
import re
from collections.abc import Iterator, Mapping

import msgspec

from worker.core.errors import EmbarqError

LARGEST_PART = 1_048_576  # bytes of a result, of arguments, of the earlier tries
LARGEST_RECORD = 8 * 1_048_576
MESSAGE_KEPT = 1000  # characters of a huge error

Fields = dict[str, msgspec.Raw]
_FIELDS = msgspec.json.Decoder(Fields)
_ERROR = msgspec.json.Decoder(dict[str, object])
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_encode = msgspec.json.Encoder().encode
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{},]')

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Unfit(EmbarqError):
    """A record is too large for a row although no part of it is huge, or nested too deeply to be read again."""


def split(entry: bytes) -> list[bytes]:
    """The records of a JSON list, also those that are no JSON themselves.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError: it is not one.
    """
    try:
        return [bytes(each) for each in _LIST.decode(entry)]
    except UNREADABLE:
        if not (entry.startswith(b"[") and entry.endswith(b"]")):
            raise
        return list(_split_by_hand(entry))  # one of them is too deep, or half a character; the others are not to blame


def _split_by_hand(entry: bytes) -> Iterator[bytes]:
    depth, start = 0, 1
    for token in _TOKENS.finditer(entry):
        mark = token.group()
        if (mark == b"," and depth == 1) or (mark == b"]" and depth == 1):
            yield entry[start : token.start()]
            start = token.end()
        depth += (mark in (b"[", b"{")) - (mark in (b"]", b"}"))


def cut(record: bytes) -> bytes:
    """The record with a note in place of each huge part; unchanged where it has another shape.

    Raises:
        Unfit: it does not fit a row.
    """
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):  # the database will say what is wrong with it
        try:
            whole = _FIELDS.decode(record)
            record = _cut(whole) if len(record) > LARGEST_PART else record
        except RecursionError:
            raise Unfit("a record must be nested less deeply") from None
    if len(record) > LARGEST_RECORD:
        raise Unfit(f"a record must have at most {LARGEST_RECORD:,} bytes, not {len(record):,}")
    return record


def _cut(whole: Fields) -> bytes:
    if _is_huge(whole, "h"):
        whole["h"] = msgspec.Raw(b"[]")
    if _is_huge(whole, "r"):
        result = _FIELDS.decode(whole["r"])
        if _is_huge(result, "r"):
            succeeded = bytes(result.get("s", b"")) == b"true"
            result["r"] = _note("result", result["r"]) if succeeded else _short(result["r"])
        if _is_huge(result, "a") or _is_huge(result, "k"):
            result["k"] = _note("arguments", bytes(result.get("a", b"")) + bytes(result.get("k", b"")))
            result["a"] = msgspec.Raw(b"[]")
        whole["r"] = msgspec.Raw(_encode(result))
    return _encode(whole)


def _is_huge(fields: Mapping[str, msgspec.Raw], name: str) -> bool:
    return name in fields and len(bytes(fields[name])) > LARGEST_PART


def _note(what: str, part: bytes | msgspec.Raw) -> msgspec.Raw:
    return msgspec.Raw(_encode({"left_out": f"{what} of {len(bytes(part))} bytes"}))


def _short(part: msgspec.Raw) -> msgspec.Raw:
    error = _ERROR.decode(part)
    message = f"{str(error.get('message'))[:MESSAGE_KEPT]}… (an error of {len(bytes(part))} bytes)"
    return msgspec.Raw(_encode({"type": str(error.get("type"))[:MESSAGE_KEPT], "message": message, "traceback": None}))
