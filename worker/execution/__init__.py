"""One attempt of one job, from its payload to its outcome."""
