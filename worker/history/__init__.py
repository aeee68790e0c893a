"""Ended jobs, kept in the database after their results have expired. The engine does not need it."""
