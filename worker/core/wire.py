"""What lies in Redis: arq's payload and result as JSON, with our own keys beside arq's (`docs/wire.md`)."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from worker.core.errors import ArgumentProblem, InvalidArguments, MalformedPayload, NotSerializable, TooLarge
from worker.core.job import Progress

T = TypeVar("T")

FOREVER_MS = -1  # a result's life that never ends
END_OF_TIME_MS = 253_402_300_799_000  # the last moment that dates can say: the end of the year 9999
LONGEST_NAME = 200
LARGEST_META = 4096  # bytes of `meta` beside a progress: it is written ten times a second, and again with the result
LARGEST = 16 * 1024 * 1024  # bytes of a call, and of a result, where nothing else is set

# Kind, count and period of a limit, as `limits.lua` reads them: digits are bounded, so that no number overflows there.
_LIMIT = r"^(c:[0-9]{1,7}:[0-9]{1,12}|r:[0-9]{1,7}:[1-9][0-9]{0,11}):"

Span = Annotated[int, Meta(ge=0, le=END_OF_TIME_MS)]
Name = Annotated[str, Meta(max_length=LONGEST_NAME)]
LimitKey = Annotated[str, Meta(max_length=512, pattern=_LIMIT)]


class CallOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a call asked for. Times are milliseconds; None means the job's own declaration.

    A workflow's job says which node it is; the value of `input_node`, or of a handler its cause, becomes the argument
    `input_name`. `unique`: what the claim is to forget of a debounced or throttled call. `durable`: the database keeps
    it on record until its end is known there. What is out of bounds is refused: anybody may write to Redis.
    """

    queue: Annotated[str, Meta(max_length=255)] | None = msgspec.field(default=None, name="z")
    timeout_ms: Span | None = msgspec.field(default=None, name="to")
    soft_timeout_ms: Span | None = msgspec.field(default=None, name="so")
    max_tries: Annotated[int, Meta(ge=1, le=1_000_000)] | None = msgspec.field(default=None, name="mt")
    result_ttl_ms: Annotated[int, Meta(ge=-1, le=END_OF_TIME_MS)] | None = msgspec.field(default=None, name="rt")
    expires_in_ms: Span | None = msgspec.field(default=None, name="x")
    tags: Annotated[tuple[Name, ...], Meta(max_length=100)] = msgspec.field(default=(), name="tg")
    limits: Annotated[tuple[LimitKey, ...], Meta(max_length=20)] = msgspec.field(default=(), name="lm")
    workflow: Annotated[str, Meta(max_length=255)] | None = msgspec.field(default=None, name="wf")
    node: Annotated[int, Meta(ge=0, le=1_000_000)] | None = msgspec.field(default=None, name="nd")
    input_node: Annotated[int, Meta(ge=0, le=1_000_000)] | None = msgspec.field(default=None, name="in")
    input_name: Name = msgspec.field(default="", name="ip")
    is_handler: bool = msgspec.field(default=False, name="h")
    unique: Annotated[str, Meta(max_length=512)] = msgspec.field(default="", name="uq")
    durable: bool = msgspec.field(default=False, name="db")


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """A job that has not ended: `arq:job:<id>`. The enqueue script writes both times."""

    first_try: Annotated[int, Meta(ge=0, le=1_000_000)] | None = msgspec.field(default=None, name="t")
    job: Name = msgspec.field(name="f")
    args: list[Any] = msgspec.field(default_factory=list, name="a")
    kwargs: dict[str, Any] = msgspec.field(default_factory=dict, name="k")
    options: CallOptions = msgspec.field(default_factory=CallOptions, name="o")
    request_id: str | None = msgspec.field(default=None, name="n")
    due_ms: Span | None = msgspec.field(default=None, name="du")
    enqueued_ms: Span = msgspec.field(name="et")


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A job that has ended: `arq:result:<id>`. Written by plain arq, only its own keys are there."""

    tries: int = msgspec.field(name="t")
    job: str = msgspec.field(name="f")
    args: list[Any] = msgspec.field(name="a")
    kwargs: dict[str, Any] = msgspec.field(name="k")
    enqueued_ms: Span = msgspec.field(name="et")
    success: bool = msgspec.field(name="s")
    result: Any = msgspec.field(name="r")
    started_ms: Span = msgspec.field(name="st")
    finished_ms: Span = msgspec.field(name="ft")
    queue: str = msgspec.field(default="arq:queue", name="q")
    id: str | None = None
    state: str | None = None
    lease: str | None = None
    request_id: str | None = msgspec.field(default=None, name="n")
    options: CallOptions = msgspec.field(default_factory=CallOptions, name="o")
    progress: "ProgressRecord | None" = msgspec.field(default=None, name="p")
    worker: str | None = msgspec.field(default=None, name="w")
    notice: dict[str, Any] | None = None


class UnreadResult(Result, frozen=True, kw_only=True):
    """The same for those who only pass the result on: it is left as it was written. To read sixteen megabytes takes
    half a second, and nothing can interrupt it."""

    result: msgspec.Raw = msgspec.field(name="r")


class ProgressRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """The latest progress that a job reported."""

    current: int = msgspec.field(name="c")
    total: int | None = msgspec.field(default=None, name="t")
    message: str | None = msgspec.field(default=None, name="m")
    meta: dict[str, Any] | None = msgspec.field(default=None, name="d")


class AttemptRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A try before the last: an entry of `embarq:tries:<id>`. The claim script writes those whose lease was lost."""

    number: int = msgspec.field(name="n")
    worker: str = msgspec.field(name="w")
    started_ms: Span = msgspec.field(name="st")
    outcome: str = msgspec.field(name="o")
    finished_ms: Span | None = msgspec.field(default=None, name="ft")
    error: dict[str, Any] | None = msgspec.field(default=None, name="e")


def progress_record(progress: Progress | None) -> ProgressRecord | None:
    """Progress as it is stored."""
    if progress is None:
        return None
    return ProgressRecord(progress.current, progress.total, progress.message, progress.meta)


def _plain(value: Any) -> Any:
    """A JSON-ready stand-in for what msgspec does not know: pydantic models."""
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
    raise NotImplementedError(type(value).__name__)


PAYLOADS = msgspec.json.Decoder(Payload)
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

JSON = msgspec.json.Encoder(enc_hook=_plain)
NOT_JSON = (TypeError, ValueError, NotImplementedError, RecursionError, OverflowError)


def not_json(value: object, error: Exception) -> NotSerializable:
    """What one of `NOT_JSON` says of a value that was to be written."""
    return NotSerializable(f"must be JSON, and {type(value).__name__} is not: {error}")


def dumps(value: object) -> bytes:
    """Write JSON. Dates, UUIDs, decimals, enums, dataclasses and pydantic models become their JSON form.

    Raises:
        NotSerializable: something in `value` has no JSON form; the message names its type.
    """
    try:
        return JSON.encode(value)
    except NOT_JSON as error:
        raise not_json(value, error) from error


def dumps_within(value: object, most: int) -> bytes:
    """Write JSON of at most so many bytes.

    Raises:
        NotSerializable: something in `value` has no JSON form.
        TooLarge: it has, and takes more bytes.
    """
    data = dumps(value)
    if len(data) > most:
        raise too_large(data, most)
    return data


def too_large(data: bytes, most: int) -> TooLarge:
    """What is wrong with JSON of more than so many bytes."""
    return TooLarge(
        f"must take at most {most:,} bytes as JSON, not {len(data):,}: store it elsewhere and pass a reference"
    )


def plain_meta(meta: Mapping[str, Any]) -> dict[str, Any]:
    """A job's `meta` as JSON reads it again: a copy, so that what the job does to its own afterwards changes nothing.

    Raises:
        NotSerializable: it is not a mapping, something in it has no JSON form, or it takes more than 4,096 bytes.
    """
    if not isinstance(meta, Mapping):
        raise NotSerializable(f"meta must be a mapping, not {type(meta).__name__}")
    plain: dict[str, Any] = msgspec.json.decode(dumps_within(dict(meta), LARGEST_META))
    return plain


def dump_payload(payload: Payload, most: int = LARGEST) -> bytes:
    """A payload without its times, which the enqueue script adds from Redis' clock. `most`: bytes that it may take.

    Raises:
        NotSerializable: an argument has no JSON form.
        InvalidArguments: it takes more bytes.
    """
    fields = {
        "t": payload.first_try,
        "f": payload.job,
        "a": payload.args,
        "k": payload.kwargs,
        "o": payload.options,
        "n": payload.request_id,
    }
    data = dumps(fields)
    if len(data) > most:
        message = f"must take at most {most:,} bytes as JSON, not {len(data):,}: pass ids or file names instead"
        raise InvalidArguments(payload.job, [ArgumentProblem(("args",), message)])
    return data


def loads(data: bytes, kind: type[T]) -> T:
    """Read a record of the wire.

    Raises:
        MalformedPayload: not JSON, or JSON of another shape. Pickle is recognised by its first byte and refused.
    """
    if data[:1] == b"\x80":  # the opcode PROTO, with which every pickle since protocol 2 begins; no JSON does
        raise MalformedPayload("must be JSON, not pickle: set job_serializer to JSON at its sender")
    try:
        return msgspec.json.decode(data, type=kind)
    except UNREADABLE as error:
        raise MalformedPayload(f"must be the {kind.__name__.lower()} of a job, and cannot be read: {error}") from error
