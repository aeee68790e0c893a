"""What became of jobs, kept in the database beyond their results' lives. The engine does not need it."""
