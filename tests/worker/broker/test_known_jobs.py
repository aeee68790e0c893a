import hashlib

import msgspec
import pytest

from worker.broker.inspect import WorkerRecord
from worker.broker.known_jobs import MOST, NAMED_BYTES, KnownJobs, told
from worker.core import wire


def signatures(count: int) -> dict[str, str]:
    return {
        f"jobs_of_department_{number}": hashlib.sha256(str(number).encode()).hexdigest()[:16] for number in range(count)
    }


def say(count: int) -> KnownJobs:
    return told(signatures(count), signatures(count))


@pytest.mark.parametrize("count", [1, 100, 10_000])
def test_worker_tells_what_it_knows_in_bounded_bytes(count: int) -> None:
    known = say(count)
    assert len(wire.dumps(known)) < 2 * NAMED_BYTES + 8 * 1024
    table = signatures(count)
    for name in list(table)[:50] + list(table)[-50:]:
        assert known.knows(name)
        assert not known.may_differ(name, table[name])
        assert known.may_differ(name, "another")
    for name in ("stranger", f"jobs_of_department_{count}"):
        assert known.knows(name) is False
        assert not known.may_differ(name, "another")


def test_few_jobs_are_told_by_name_for_people_and_for_the_release_before() -> None:
    known = say(500)
    assert known.jobs == sorted(signatures(500))
    assert known.signatures == signatures(500)
    assert not say(10_000).jobs


@pytest.mark.parametrize("silent", [say(MOST + 1), KnownJobs()])
def test_more_than_can_be_told_is_left_open(silent: KnownJobs) -> None:
    assert silent.knows("jobs_of_department_1") is None
    assert not silent.may_differ("jobs_of_department_1", "another")


def test_release_that_tells_names_alone_may_know_a_job_otherwise() -> None:
    older = KnownJobs(jobs=["send"])
    assert older.knows("send")
    assert older.may_differ("send", "any")
    assert older.knows("other") is False


def test_record_of_the_release_before_is_read_and_ours_by_it() -> None:
    before = {"id": "w", "host": "h", "pid": 1, "queues": ["q"], "concurrency": 1, "running": 0, "started_at": 1.0}
    record = wire.loads(wire.dumps({**before, "jobs": ["send"], "signatures": {"send": "x"}}), WorkerRecord)
    assert record.knows("send")
    large = say(10_000)
    said = wire.dumps(WorkerRecord(**before, jobs=large.jobs, digests=large.digests))  # type: ignore[arg-type]
    assert msgspec.json.decode(said)["jobs"] == [], "the release before reads no record without it"


@pytest.mark.parametrize("digests", ["?", "AAAA", "A" * 7])
def test_what_a_stranger_wrote_is_left_open(digests: str) -> None:
    assert KnownJobs(digests=digests).knows("send") is None
