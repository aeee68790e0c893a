"""The service's jobs: a module per domain, each found without being listed anywhere."""

from jobs import resources

__all__ = ["resources"]  # resources must be registered before the jobs that use them
