"""Which jobs a worker says that it knows, in bounded bytes: it repeats them every few seconds."""

import base64
import hashlib
from collections.abc import Iterable, Mapping

import msgspec

NAMED_BYTES = 64 * 1024  # of names and signatures; where they take more, digests stand for them
# Bytes of a name's digest, and of it with that of its signature. Two of 12,000 names collide with a chance of 1 in
# 15,000 (12,000² / 2 / 2⁴⁰); then a worker seems to know a job that it does not know.
NAME_BYTES, ENTRY_BYTES = 5, 8
MOST = 12_000  # digests: 128 KB as text


class KnownJobs(msgspec.Struct, frozen=True, kw_only=True):
    """`jobs`: names. `signatures`: names and aliases with the digests of their parameters. `digests`: where those are
    too many, a digest of each name and its signature, concatenated.

    What a worker knows is undetermined where an older release reports none of these, or it knows more than 12,000 jobs.
    """

    jobs: list[str] = []
    signatures: dict[str, str] = {}
    digests: str = ""

    def knows(self, name: str) -> bool | None:
        """Whether the worker has code for a job; None where it does not say."""
        entries = self._entries()
        if entries:
            return _find(entries, name) is not None
        if self.jobs or self.signatures:
            return name in self.signatures or name in self.jobs
        return None

    def may_differ(self, name: str, signature: str) -> bool:
        """Whether it may take other arguments for a job than this signature stands for."""
        entries = self._entries()
        if entries:
            entry = _find(entries, name)
            return entry is not None and entry != _entry(name, signature)
        if self.signatures:
            return self.signatures.get(name, signature) != signature
        return name in self.jobs  # an older release, which reports no signatures

    def _entries(self) -> bytes:
        """The digests; empty where what is there cannot be digests."""
        try:
            entries = base64.b64decode(self.digests, validate=True)
        except ValueError:
            return b""
        return b"" if len(entries) % ENTRY_BYTES else entries


def told(names: Iterable[str], signatures: Mapping[str, str]) -> KnownJobs:
    """What a worker reports: all by name, or digests, or nothing where even those would be too many."""
    jobs = sorted(names)
    if sum(len(name) + len(digest) + 6 for name, digest in signatures.items()) + sum(map(len, jobs)) <= NAMED_BYTES:
        return KnownJobs(jobs=jobs, signatures=dict(signatures))
    if len(signatures) > MOST:
        return KnownJobs()
    entries = b"".join(_entry(name, signature) for name, signature in signatures.items())
    return KnownJobs(digests=base64.b64encode(entries).decode())


def _find(entries: bytes, name: str) -> bytes | None:
    wanted = _digest(name, NAME_BYTES)
    places = range(0, len(entries), ENTRY_BYTES)
    return next((entries[at : at + ENTRY_BYTES] for at in places if entries.startswith(wanted, at)), None)


def _entry(name: str, signature: str) -> bytes:
    return _digest(name, NAME_BYTES) + _digest(signature, ENTRY_BYTES - NAME_BYTES)


def _digest(text: str, size: int) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:size]
