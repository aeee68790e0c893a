"""The service's jobs: a module per domain, each found without being listed anywhere."""

from jobs import resources

__all__ = ["resources"]  # what jobs ask for is known before they are
