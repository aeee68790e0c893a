"""The same work for each system, each module run by the interpreter of that system's own environment.

`python -m benchmarks.peers.<name> worker` serves until it is stopped, `... enqueue <way> <job> <count>` prints the
seconds that it took, `... stamps <count> <delay>` enqueues jobs that note how late they start. Redis is at REDIS_URL.
"""
