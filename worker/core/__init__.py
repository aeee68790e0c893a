"""What everything speaks of: jobs, calls, schedules, workflows, errors and how they are written. It knows no server."""
