"""The service's jobs: a module per domain, each found without being listed anywhere."""
