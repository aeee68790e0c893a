"""The upgrade of databases from before the engine's revisions had a branch of their own.

They hold one line of revisions: 0001, 0002, 0003 (the learning platform's tables), 0004. Now 0003 begins the platform's
branch, and 0004 follows 0002. Such a database names only its newest revision, which now stands for one branch only.
Where the engine alone was migrated since, that is a later one of the engine's.
"""

from collections.abc import Set

from sqlalchemy import Connection, text

VERSIONS = "embarq_version"  # the table that names the newest revision of each branch

LABEL = "platform"  # of the platform's branch

# A table that shows that the engine's, or the platform's, part of the old line has run.
ENGINE, PLATFORM = "embarq_outbox", "lessons"


def split_branches(connection: Connection, platform: Set[str]) -> None:
    """Record the newest revision of both branches; does nothing the second time. `platform`: revisions of its branch,
    none where the platform is not installed."""
    if not _exists(connection, VERSIONS):
        return
    seen = set(connection.execute(text("SELECT version_num FROM embarq_version")).scalars())
    if seen == {"0003"} and _exists(connection, ENGINE):
        _add(connection, "0002")
    if platform and seen.isdisjoint(platform) and _exists(connection, PLATFORM):
        _add(connection, "0003")


def _exists(connection: Connection, table: str) -> bool:
    return bool(connection.execute(text("SELECT to_regclass(:table) IS NOT NULL"), {"table": table}).scalar_one())


def _add(connection: Connection, revision: str) -> None:
    connection.execute(text("INSERT INTO embarq_version (version_num) VALUES (:revision)"), {"revision": revision})
