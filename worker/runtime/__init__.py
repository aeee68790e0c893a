"""The worker process: what it claims, runs and settles, and what goes on beside that."""
