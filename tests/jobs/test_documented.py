"""`docs/jobs.md` holds every job of the platform's own modules, as the code has it. Modules that it does not name are
other people's, who may add what they like."""

import re
from typing import Any

from tests.support import ROOT
from worker import JobDefinition, discover, registry
from worker.core.limits import RateLimit

TABLE = re.compile(r"^\| `(\w+)` \| `([\w.]+)` \| (\w+) \| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", re.MULTILINE)


def documented() -> dict[str, tuple[str, ...]]:
    """The rows of the table: by job, its module and what else is told of it."""
    return {row[0]: row[1:] for row in TABLE.findall((ROOT / "docs" / "jobs.md").read_text())}


def platform_jobs() -> dict[str, JobDefinition[..., Any]]:
    """The jobs of the modules that the table names."""
    discover(["jobs"], registry)
    modules = {module for module, *_ in documented().values()}
    return {each.name: each for each in registry if each.function.__module__ in modules}


def test_every_job_is_in_the_table() -> None:
    found, jobs = documented(), platform_jobs()
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
    jobs = platform_jobs()
    found = {record.name: record.times.text for record in registry.schedules if record.job in jobs}
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
