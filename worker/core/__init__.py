"""The vocabulary: jobs, calls, schedules, workflows, errors, and how they are encoded. Nothing here knows a server."""
