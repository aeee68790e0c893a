"""`docs/jobs.md` holds every job, as the code has it."""

import re

from tests.support import ROOT
from worker import discover, registry
from worker.limits import RateLimit

TABLE = re.compile(r"^\| `(\w+)` \| `([\w.]+)` \| (\w+) \| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)


def test_every_job_is_in_the_table() -> None:
    discover(["jobs"], registry)
    found = {row[0]: row[1:] for row in TABLE.findall((ROOT / "docs" / "jobs.md").read_text())}
    jobs = {definition.name: definition for definition in registry if definition.path.startswith("jobs.")}
    assert set(found) == set(jobs)
    schedules: dict[str, str] = {record.job: record.times.text for record in registry.schedules}
    for name, (module, queue, limits, schedule, _endpoint, test) in found.items():
        definition = jobs[name]
        assert definition.path == f"{module}.{definition.function.__qualname__}"
        assert definition.queue == queue, name
        rates = [each.rate for each in definition.limits if isinstance(each, RateLimit)]
        assert limits == (", ".join(rates) or "-"), name
        assert schedule == schedules.get(name, "-"), name
        assert name in (ROOT / test).read_text() or test.endswith("test_platform.py"), f"{name} is not in {test}"


def test_the_schedules_that_ship() -> None:
    discover(["jobs"], registry)
    found = {record.name: record.times.text for record in registry.schedules if record.job in registry_jobs()}
    assert found == {
        "cleanup_expired_tokens": "0 3 * * *",
        "generate_daily_analytics": "0 1 * * *",
        "generate_hourly_analytics": "every 3600 s",
        "generate_weekly_report": "0 9 * * mon",
        "monthly_archive": "0 0 1 * *",
        "cleanup_old_sessions": "30 3 * * *",
        "cleanup_old_files": "0 3 * * *",
        "generate_invoices": "0 6 1 * *",
        "backup_database": "0 0 * * *",
        "warm_cache": "every 60 s",
        "cleanup_stale_progress": "0 2 * * *",
    }


def registry_jobs() -> set[str]:
    """The service's own jobs, without those of tests."""
    return {definition.name for definition in registry if definition.path.startswith("jobs.")}
