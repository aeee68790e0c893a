"""The same job as two releases have it."""
