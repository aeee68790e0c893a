"""The jobs of the project whose tests run, as its workers would find them."""

from importlib.util import find_spec
from pathlib import Path

from worker.discovery import discover
from worker.project import find_project
from worker.registry import Registry
from worker.settings import Settings


def import_jobs(folder: Path, registry: Registry) -> None:
    """Import the modules with jobs that the project of a folder names, or `jobs` if there is such a one: resources are
    known then before a job asks for them. A project that names none imports its jobs in its tests.

    Raises:
        ProjectError, SettingsError: the project cannot be run as it is.
        DefinitionError: a module is missing, or a job is declared wrongly.
    """
    settings = find_project(folder).load_settings()
    registry.route(settings.routes)
    names_none = settings.jobs == Settings.model_fields["jobs"].default
    if not names_none or find_spec("jobs") is not None:
        discover(settings.jobs, registry)
