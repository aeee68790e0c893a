"""New projects and new jobs from templates: `embarq new`."""

from worker.scaffold.app import new_app
from worker.scaffold.job import new_job

__all__ = ["new_app", "new_job"]
