"""Do the tables exist, as this release needs them?"""

from sqlalchemy.ext.asyncio import AsyncEngine

from worker.cli.check import Check
from worker.cli.checks.patient import Patient
from worker.core.errors import EmbarqError
from worker.database import make_engine
from worker.database.connections import REQUESTS
from worker.database.migrate import Revisions, seen_revisions

DATABASE = "database"


async def tables_are_there(patient: Patient) -> list[Check]:
    """Tables that are missing or behind are wrong; there may be no database at all."""
    url = patient.settings.database_url
    if url is None:
        return [Check.doubtful(DATABASE, "DATABASE_URL is not set; the queue runs without one")]
    engine = make_engine(url, size=1, patience=REQUESTS)
    try:
        return [await _compare(engine, Revisions.of(patient.folders))]
    except EmbarqError as error:  # it cannot be reached, or the revisions do not form one history
        return [Check.wrong(DATABASE, str(error))]
    finally:
        await engine.dispose()


async def _compare(engine: AsyncEngine, ours: Revisions) -> Check:
    seen = await seen_revisions(engine)
    if not seen:
        return Check.wrong(DATABASE, "the tables are missing: run `embarq migrate`")
    newer = sorted(seen - ours.all)
    behind = sorted(ours.newest - seen)
    if newer:
        return Check.doubtful(DATABASE, f"a newer release has migrated its tables: revision {', '.join(newer)}")
    if behind:
        return Check.wrong(DATABASE, f"the tables are behind: run `embarq migrate` to {', '.join(behind)}")
    return Check.fine(DATABASE, f"answers, and has its tables up to {', '.join(sorted(seen))}")
