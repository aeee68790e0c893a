"""What the doctor looks at, a module for each thing. A check is a function from a patient to findings."""

from worker.cli.checks.patient import Patient

__all__ = ["Patient"]
